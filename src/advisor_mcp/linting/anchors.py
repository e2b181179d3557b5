"""The keys by which a configuration file is known: a file is a tool's that has a key of each of its groups."""

from __future__ import annotations

from dataclasses import dataclass

Keys = frozenset[str]


@dataclass(frozen=True)
class Anchor:
    """A tool's files have a key of every group and none of `without`; `scope` names the option table."""

    tool: str
    groups: tuple[Keys, ...]
    scope: str = ""
    without: Keys = frozenset()

    def fits(self, keys: set[str]) -> bool:
        """Whether a file with these keys is the tool's."""
        return all(keys & group for group in self.groups) and not keys & self.without


def _keys(*names: str) -> Keys:
    return frozenset(names)


_TRAINING = _keys("output_dir", "base_model", "num_generations", "learning_rate", "finetuning_type")

ACCELERATE = Anchor(
    "accelerate",
    (
        _keys("compute_environment", "distributed_type"),
        _keys("num_processes", "mixed_precision", "distributed_type", "num_machines"),
    ),
)
AXOLOTL = Anchor(
    "axolotl",
    (
        _keys("base_model"),
        _keys(
            "datasets", "pretraining_dataset", "micro_batch_size", "adapter", "sequence_len", "test_datasets", "rl", "sample_packing",
            "num_epochs", "val_set_size", "load_in_4bit", "load_in_8bit",
        ),
    ),
)  # fmt: skip
LLAMAFACTORY = (
    Anchor(
        "llamafactory",
        (
            _keys(
                "finetuning_type", "template", "export_dir", "cutoff_len", "quantization_bit", "lora_target", "dataset_dir",
                "infer_backend", "adapter_name_or_path", "do_predict",
            ),
            _keys("model_name_or_path"),
        ),
    ),
    Anchor("llamafactory", (_keys("stage"), _keys("dataset", "do_train", "finetuning_type"))),
)  # fmt: skip
MAXTEXT = Anchor(
    "maxtext",
    (
        _keys("base_emb_dim", "base_num_decoder_layers", "per_device_batch_size"),
        _keys("decoder_block", "base_emb_dim", "dataset_type", "run_name", "model_name"),
    ),
)
TRITON = Anchor(
    "tensorrt-llm",
    (
        _keys(
            "kv_cache_free_gpu_mem_fraction", "max_tokens_in_paged_kv_cache", "batch_scheduler_policy", "decoupled_mode", "engine_dir",
            "triton_max_batch_size",
        ),
    ),
    "triton",
)  # fmt: skip
TRTLLM = Anchor(
    "tensorrt-llm",
    (
        _keys(
            "kv_cache_config", "cuda_graph_config", "moe_config", "print_iter_log", "enable_attention_dp", "cuda_graph_padding_enabled",
            "enable_autotuner", "moe_expert_parallel_size",
        ),
    ),
    "yaml",
)  # fmt: skip
SGLANG = Anchor(
    "sglang",
    (_keys("mem_fraction_static", "tp_size", "context_length", "chunked_prefill_size", "model_path"),),
    "serve",
    _keys("output_dir"),
)
VLLM = Anchor(
    "vllm",
    (
        _keys(
            "tensor_parallel_size", "max_model_len", "gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens",
            "served_model_name", "enable_chunked_prefill", "kv_cache_dtype", "enforce_eager", "enable_prefix_caching", "tool_call_parser",
            "speculative_config", "data_parallel_size", "quantization", "enable_lora", "enable_auto_tool_choice",
        ),
    ),
    "serve",
    _TRAINING,
)  # fmt: skip
MEGATRON = Anchor(
    "megatron-lm",
    (
        _keys("tensor_model_parallel_size", "pipeline_model_parallel_size", "language_model", "num_layers"),
        _keys("hidden_size", "num_attention_heads", "micro_batch_size", "model_parallel", "tensor_model_parallel_size"),
    ),
    without=_keys("model_type", "architectures"),
)

TITAN_SECTIONS = _keys(
    "job", "model", "training", "parallelism", "checkpoint", "activation_checkpoint", "optimizer", "lr_scheduler", "metrics",
    "profiling", "compile", "quantize", "validation", "comm", "fault_tolerance", "memory_estimation", "debug", "experimental", "float8",
)  # fmt: skip
LITGPT_TRAIN = _keys(
    "lr_warmup_steps", "lr_warmup_fraction", "epochs", "max_tokens", "max_norm", "max_seq_length", "tie_embeddings"
)
LITGPT_SCRIPT = _keys("checkpoint_dir", "model_name", "lora_r", "initial_checkpoint_dir", "tokenizer_dir", "out_dir")
BRIDGE_SECTIONS = _keys(
    "ddp",
    "checkpoint",
    "dist",
    "optimizer",
    "scheduler",
    "dataset",
    "logger",
    "train",
    "rng",
    "mixed_precision",
    "comm_overlap",
)
DEEPSPEED_KEYS = _keys(
    "train_micro_batch_size_per_gpu",
    "zero_optimization",
    "zero_allow_untested_optimizer",
    "wall_clock_breakdown",
    "steps_per_print",
)
DEEPSPEED_SECTIONS = _keys(
    "bf16", "fp16", "zero_optimization", "zero_optimisation", "activation_checkpointing", "flops_profiler"
)
DEEPSPEED_COMMON = _keys(
    "train_batch_size",
    "gradient_clipping",
    "gradient_accumulation_steps",
    "prescale_gradients",
    "communication_data_type",
)

HF = _keys(
    "output_dir", "per_device_train_batch_size", "num_train_epochs", "gradient_accumulation_steps", "evaluation_strategy",
    "eval_strategy", "save_strategy", "lr_scheduler_type", "warmup_ratio", "logging_steps", "report_to", "fsdp", "deepspeed", "optim",
    "push_to_hub", "load_best_model_at_end", "gradient_checkpointing", "per_device_eval_batch_size", "ddp_find_unused_parameters",
    "max_steps", "save_steps", "save_total_limit",
)  # fmt: skip
TRL_MODEL = _keys(
    "use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "attn_implementation", "dataset_name", "dataset_config",
    "dataset_mixer", "dataset_mixture", "load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "torch_dtype", "dtype", "model_revision",
)  # fmt: skip
TRL = {
    "grpo": _keys(
        "num_generations", "max_completion_length", "reward_funcs", "reward_weights", "use_vllm", "vllm_mode", "num_iterations",
        "generation_batch_size", "steps_per_generation",
    ),
    "dpo": _keys(
        "beta", "loss_type", "ref_model", "rpo_alpha", "sync_ref_model", "precompute_ref_log_probs", "max_prompt_length",
        "label_smoothing",
    ),
    "sft": _keys(
        "packing", "max_seq_length", "max_length", "padding_free", "packing_strategy", "assistant_only_loss", "completion_only_loss",
        "dataset_text_field", "neftune_noise_alpha", "eos_token", "eval_packing",
    ),
}  # fmt: skip

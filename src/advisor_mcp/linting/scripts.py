"""Which tool's options a Python script takes, by its name and by the flags that it is given."""

from __future__ import annotations

import re
from collections.abc import Sequence as Words
from pathlib import PurePosixPath

from advisor_mcp.linting.flag_words import FLAG

MEGATRON_FLAGS = {
    "tensor_model_parallel_size", "pipeline_model_parallel_size", "num_layers", "hidden_size", "num_attention_heads", "seq_length",
    "micro_batch_size", "global_batch_size", "train_iters", "train_samples", "max_position_embeddings", "context_parallel_size",
    "expert_model_parallel_size", "tokenizer_type", "use_mcore_models", "use_checkpoint_args", "sequence_parallel", "ckpt_format",
}  # fmt: skip
HF_FLAGS = {
    "per_device_train_batch_size", "output_dir", "model_name_or_path", "num_train_epochs", "gradient_accumulation_steps", "save_strategy",
    "evaluation_strategy", "eval_strategy", "logging_steps", "save_steps", "warmup_ratio", "gradient_checkpointing", "fsdp", "report_to",
    "learning_rate", "bf16", "fp16", "optim", "lr_scheduler_type",
}  # fmt: skip
TRL_FLAGS = {
    "use_peft", "lora_r", "dataset_name", "max_seq_length", "packing", "num_generations", "max_length", "attn_implementation", "use_vllm",
    "max_completion_length", "max_prompt_length", "lora_target_modules", "dataset_text_field", "padding_free", "assistant_only_loss",
}  # fmt: skip
LLAMAFACTORY_FLAGS = {
    "finetuning_type",
    "stage",
    "template",
    "cutoff_len",
    "quantization_bit",
    "lora_target",
    "flash_attn",
    "neat_packing",
}


def tool_of_script(script: str, words: Words[str]) -> tuple[str, str]:
    """Which tool's options a script takes, by its name and its flags; ``script`` where they are nobody's."""
    flags = {w.split("=")[0].lstrip("-").replace("-", "_") for w in words if FLAG.match(w)}
    base = PurePosixPath(script).name
    if (
        base
        in (
            "pretrain_gpt.py",
            "pretrain_llama.py",
            "pretrain_mamba.py",
            "pretrain_bert.py",
            "pretrain_t5.py",
            "pretrain_vlm.py",
        )
        or len(flags & MEGATRON_FLAGS) >= 3
    ):
        return "megatron-lm", ""
    if "torchtitan" in script or any(flag.startswith(("parallelism.", "training.", "job.")) for flag in flags):
        return "torchtitan_cli", ""
    if len(flags & LLAMAFACTORY_FLAGS) >= 2:
        return "llamafactory", ""
    method = _METHOD.search(base)
    hf = flags & HF_FLAGS
    if method and (hf or flags & TRL_FLAGS) and base.removesuffix(".py") in TRL_SCRIPTS:
        return "trl", TRL_SCRIPTS[base.removesuffix(".py")]
    if len(hf) >= 3 or ("output_dir" in flags and len(hf) >= 2):
        return "hf_trainer", "TrainingArguments"
    return "script", ""


_METHOD = re.compile(r"sft|dpo|grpo|kto|orpo|cpo|rloo|ppo|reward|gkd")
TRL_SCRIPTS = {
    "sft": "sft",
    "dpo": "dpo",
    "grpo": "grpo",
    "kto": "kto",
    "rloo": "rloo",
    "orpo": "orpo",
    "cpo": "cpo",
    "gkd": "gkd",
    "reward_modeling": "reward",
    "reward": "reward",
}

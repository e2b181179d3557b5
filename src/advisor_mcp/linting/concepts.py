"""What the tools call the same thing: a concept's name in each of them."""

from __future__ import annotations

from collections.abc import Mapping

HF_FAMILY = ("hf_trainer", "trl", "llamafactory")  # their configurations hold transformers' TrainingArguments
TRAINERS = (*HF_FAMILY, "axolotl")
ENGINES = ("vllm", "sglang", "tensorrt-llm", "llama.cpp")
MEGATRON = ("megatron-lm", "megatron-bridge", "nemo")

# concept -> tool -> the tool's own canonical names, the first that is set counts
CONCEPTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "model": {
        "hf_trainer": ("model_name_or_path", "model_id", "model_name"),
        "trl": ("model_name_or_path",),
        "llamafactory": ("model_name_or_path",),
        "axolotl": ("base_model",),
        "vllm": ("model", "model_tag"),
        "sglang": ("model_path", "model"),
        "tensorrt-llm": ("model",),
        "llama.cpp": ("model", "hf_repo"),
    },
    "tensor_parallel": {
        "vllm": ("tensor_parallel_size",),
        "sglang": ("tp_size", "tensor_parallel_size", "tp"),
        "tensorrt-llm": ("tp_size", "tensor_parallel_size"),
        "megatron-lm": ("tensor_model_parallel_size",),
        "megatron-bridge": ("model.tensor_model_parallel_size",),
        "nemo": ("model.tensor_model_parallel_size",),
        "torchtitan": ("parallelism.tensor_parallel_degree",),
        "torchtune": ("tensor_parallel_dim",),
        "axolotl": ("tensor_parallel_size",),
        "deepspeed": ("tensor_parallel.autotp_size",),
    },
    "pipeline_parallel": {
        "vllm": ("pipeline_parallel_size",),
        "sglang": ("pp_size", "pipeline_parallel_size"),
        "tensorrt-llm": ("pp_size", "pipeline_parallel_size"),
        "megatron-lm": ("pipeline_model_parallel_size",),
        "megatron-bridge": ("model.pipeline_model_parallel_size",),
        "nemo": ("model.pipeline_model_parallel_size",),
        "torchtitan": ("parallelism.pipeline_parallel_degree",),
    },
    "context_parallel": {
        "megatron-lm": ("context_parallel_size",),
        "megatron-bridge": ("model.context_parallel_size",),
        "nemo": ("model.context_parallel_size",),
        "torchtitan": ("parallelism.context_parallel_degree",),
        "torchtune": ("context_parallel_dim",),
        "axolotl": ("context_parallel_size",),
    },
    "data_parallel": {
        "vllm": ("data_parallel_size",),
        "sglang": ("dp_size", "data_parallel_size"),
    },
    "expert_parallel": {
        "sglang": ("ep_size", "expert_parallel_size"),
        "tensorrt-llm": ("ep_size", "moe_expert_parallel_size"),
        "megatron-lm": ("expert_model_parallel_size",),
        "megatron-bridge": ("model.expert_model_parallel_size",),
        "nemo": ("model.expert_model_parallel_size",),
        "torchtitan": ("parallelism.expert_parallel_degree",),
    },
    "max_length": {
        "vllm": ("max_model_len",),
        "sglang": ("context_length",),
        "tensorrt-llm": ("max_seq_len",),
    },
    "micro_batch_size": {
        "hf_trainer": ("per_device_train_batch_size",),
        "trl": ("per_device_train_batch_size",),
        "llamafactory": ("per_device_train_batch_size",),
        "axolotl": ("micro_batch_size",),
        "deepspeed": ("train_micro_batch_size_per_gpu",),
        "megatron-lm": ("micro_batch_size",),
        "megatron-bridge": ("train.micro_batch_size",),
        "nemo": ("model.micro_batch_size",),
        "torchtitan": ("training.local_batch_size", "training.batch_size"),
        "torchtune": ("batch_size",),
    },
    "gradient_accumulation_steps": {
        "hf_trainer": ("gradient_accumulation_steps",),
        "trl": ("gradient_accumulation_steps",),
        "llamafactory": ("gradient_accumulation_steps",),
        "axolotl": ("gradient_accumulation_steps",),
        "deepspeed": ("gradient_accumulation_steps",),
        "torchtune": ("gradient_accumulation_steps",),
    },
    "global_batch_size": {
        "deepspeed": ("train_batch_size",),
        "megatron-lm": ("global_batch_size",),
        "megatron-bridge": ("train.global_batch_size",),
        "nemo": ("model.global_batch_size",),
        "torchtitan": ("training.global_batch_size",),
    },
    "bf16": {
        "hf_trainer": ("bf16",),
        "trl": ("bf16",),
        "llamafactory": ("bf16",),
        "axolotl": ("bf16",),
        "deepspeed": ("bf16.enabled",),
        "megatron-lm": ("bf16",),
    },
    "fp16": {
        "hf_trainer": ("fp16",),
        "trl": ("fp16",),
        "llamafactory": ("fp16",),
        "axolotl": ("fp16",),
        "deepspeed": ("fp16.enabled",),
        "megatron-lm": ("fp16",),
    },
    "dtype": {"vllm": ("dtype",), "sglang": ("dtype",), "torchtune": ("dtype",)},
    "quantization": {"vllm": ("quantization",), "sglang": ("quantization",)},
    "kv_dtype": {"vllm": ("kv_cache_dtype",), "sglang": ("kv_cache_dtype",)},
}

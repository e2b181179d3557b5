"""A GGUF file's metadata as the configuration that transformers would have for the same model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from advisor_mcp.anatomy.checkpoints import Checkpoint, Length
from advisor_mcp.errors import CannotAnswer, shown

# GGUF architecture -> model type, where one stands for the other
MODEL_TYPES = {
    "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "gemma": "gemma",
    "gemma2": "gemma2", "gemma3": "gemma3_text", "gpt-oss": "gpt_oss", "deepseek2": "deepseek_v3",
}  # fmt: skip
FIELDS = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "context_length": "max_position_embeddings",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}
LATENT_FIELDS = {
    "attention.q_lora_rank": "q_lora_rank",
    "attention.kv_lora_rank": "kv_lora_rank",
    "rope.dimension_count": "qk_rope_head_dim",
    "leading_dense_block_count": "first_k_dense_replace",
    "expert_count": "n_routed_experts",
    "expert_shared_count": "n_shared_experts",
}


def gguf_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The configuration of the model in a GGUF file; raises `CannotAnswer` for an architecture that is not translated."""
    metadata, tensors = checkpoint.metadata, checkpoint.tensors
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in MODEL_TYPES:
        raise CannotAnswer(
            f"the GGUF architecture {shown(architecture)} is not translated here; its tensors are counted from the file",
            needs=["the model's config.json"],
        )
    fields = FIELDS | (LATENT_FIELDS if architecture == "deepseek2" else {})
    config = {
        ours: metadata[f"{architecture}.{theirs}"]
        for theirs, ours in fields.items()
        if f"{architecture}.{theirs}" in metadata
    }
    config["model_type"] = MODEL_TYPES[architecture]
    config["tie_word_embeddings"] = "output.weight" not in tensors
    if (embedding := tensors.get("token_embd.weight")) is not None and embedding.shape:
        config["vocab_size"] = embedding.shape[0]
    elif isinstance(tokens := metadata.get("tokenizer.ggml.tokens"), Length):
        config["vocab_size"] = tokens.items
    return config | _variants(architecture, config, tensors, metadata)


def _variants(
    architecture: str, config: Mapping[str, Any], tensors: Mapping[str, Any], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """What GGUF says with tensors rather than with metadata."""
    if architecture == "llama" and config.get("num_experts"):
        return {"model_type": "mixtral", "num_local_experts": config["num_experts"]}
    if architecture in ("llama", "qwen3", "qwen3moe"):
        return {"attention_bias": "blk.0.attn_q.bias" in tensors}
    if architecture in ("qwen2", "qwen2moe"):
        return {"use_sliding_window": False}
    if architecture == "gpt-oss":
        return {
            "num_local_experts": config.get("num_experts"),
            "intermediate_size": config.get("moe_intermediate_size"),
        }
    if architecture == "deepseek2":
        return _latent(config, metadata)
    return {}


def _latent(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Newer files give the head sizes of the expanded attention as *_mla; key length is that of nope and rope together."""
    key = metadata.get("deepseek2.attention.key_length_mla", metadata.get("deepseek2.attention.key_length"))
    value = metadata.get("deepseek2.attention.value_length_mla", metadata.get("deepseek2.attention.value_length"))
    rope = config.get("qk_rope_head_dim")
    if not (isinstance(key, int) and isinstance(rope, int)):
        return {"v_head_dim": value, "q_lora_rank": config.get("q_lora_rank")}
    return {"qk_nope_head_dim": key - rope, "v_head_dim": value, "q_lora_rank": config.get("q_lora_rank")}

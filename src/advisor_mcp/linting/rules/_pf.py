"""Names inside the models of transformers 4.57.6 and 5.23.0: their linear layers and the blocks that FSDP wraps."""

from __future__ import annotations

_GATED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_FUSED = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
_PLAIN = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")
_GROUPS: dict[tuple[str, ...], str] = {
    _GATED: (
        "llama mistral ministral qwen2 qwen3 qwen2_moe qwen3_moe gemma gemma2 gemma3 gemma3_text stablelm cohere cohere2 olmo olmo2 olmo3 "
        "granite glm4_moe smollm3 hunyuan_v1_dense ernie4_5 exaone4 seed_oss"
    ),
    _FUSED: "gpt_neox bloom falcon persimmon",
    _PLAIN: "apertus nemotron arcee",
    ("q_proj", "k_proj", "v_proj", "o_proj", "w1", "w2", "w3"): "mixtral phimoe",
    ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"): "phi",
    ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"): "phi3",
    ("q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"): "glm glm4",
    ("c_attn", "q_attn", "c_proj", "c_fc"): "gpt2 gpt_bigcode",
    ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "project_in", "project_out"): "opt",
    ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"): "gptj",
    ("Wqkv", "out_proj", "up_proj", "down_proj"): "mpt",
    ("q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj"): "starcoder2",
    (
        "q_proj",
        "q_a_proj",
        "q_b_proj",
        "kv_a_proj_with_mqa",
        "kv_b_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ): ("deepseek_v2 deepseek_v3"),
    ("q_proj", "k_proj", "v_proj", "o_proj"): "gpt_oss",
    ("query", "key", "value", "dense"): "bert",
    ("q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"): "t5",
    ("in_proj", "x_proj", "dt_proj", "out_proj"): "mamba",
    ("qkv_proj", "out_proj", "fc_in", "fc_out"): "codegen",
}
LINEAR: dict[str, tuple[str, ...]] = {
    family: names for names, families in _GROUPS.items() for family in families.split()
}
# part of every such model: not in the table, and a target all the same
SHARED = {
    "lm_head",
    "embed_tokens",
    "wte",
    "wpe",
    "embed_out",
    "embed_in",
    "word_embeddings",
    "shared",
    "score",
    "gate",
    "router",
}

_IRREGULAR = {
    "gpt_neox": "GPTNeoXLayer", "bloom": "BloomBlock", "gpt2": "GPT2Block", "gptj": "GPTJBlock", "mpt": "MptBlock",
    "gpt_bigcode": "GPTBigCodeBlock", "opt": "OPTDecoderLayer", "stablelm": "StableLmDecoderLayer", "t5": "T5Block",
    "smollm3": "SmolLM3DecoderLayer", "hunyuan_v1_dense": "HunYuanDenseV1DecoderLayer", "codegen": "CodeGenBlock",
    "bert": "BertLayer", "granitemoe": "GraniteMoeDecoderLayer", "minimax": "MiniMaxDecoderLayer", "dbrx": "DbrxBlock",
    "gemma3_text": "Gemma3DecoderLayer", "gemma3": "Gemma3DecoderLayer", "mamba": "MambaBlock",
    "qwen2_vl": "Qwen2VLDecoderLayer", "qwen2_5_vl": "Qwen2_5_VLDecoderLayer", "qwen3_vl": "Qwen3VLTextDecoderLayer",
    "qwen3_5": "Qwen3_5DecoderLayer", "qwen3_5_moe": "Qwen3_5MoeDecoderLayer", "llama4": "Llama4TextDecoderLayer",
    "gemma4": "Gemma4TextDecoderLayer", "falcon_h1": "FalconH1DecoderLayer", "nemotron_h": "NemotronHBlock",
}  # fmt: skip
_REGULAR = (
    "llama mistral ministral mixtral qwen2 qwen3 qwen2_moe qwen3_moe qwen3_next gemma gemma2 phi phi3 phimoe falcon cohere cohere2 "
    "olmo olmo2 olmo3 granite deepseek_v2 deepseek_v3 deepseek_v4 glm glm4 glm4_moe gpt_oss ernie4_5 exaone4 seed_oss apertus nemotron "
    "persimmon arcee bamba lfm2 starcoder2"
)


def _regular(family: str) -> str:
    """``qwen2_moe`` as ``Qwen2MoeDecoderLayer``; a number keeps its mark (``Ernie4_5DecoderLayer``)."""
    joined = ""
    for part in family.split("_"):
        joined += ("_" if part[0].isdigit() and joined[-1:].isdigit() else "") + part[:1].upper() + part[1:]
    return joined + "DecoderLayer"


BLOCKS: dict[str, str] = {**{family: _regular(family) for family in _REGULAR.split()}, **_IRREGULAR}


def block(family: str | None) -> str | None:
    """The class of a model's repeated block, which FSDP wraps."""
    return BLOCKS.get(family or "")


def respelled(name: str) -> str | None:
    """The class that a name means when only its capitals or marks are wrong: LLaMADecoderLayer is LlamaDecoderLayer."""
    plain = name.lower().replace("_", "")
    if name in BLOCKS.values():
        return None
    return next((known for known in BLOCKS.values() if known.lower().replace("_", "") == plain), None)

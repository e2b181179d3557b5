"""StableLM 3B, Zephyr and StableLM 2: a gated MLP under LayerNorm, q and k normalised for each head in the 12B."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import LLAMA_NAMES, Layer, Projected, decoder, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated

MODEL_TYPES = ("stablelm",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' StableLmConfig; parallel layers have one norm instead of two."""
    sizes = heads_of(c, kv_heads=c.number("num_key_value_heads", default=32, of="StableLmConfig"))
    sizes |= {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    attention = Projected(
        bias=c.flag("use_qkv_bias"), o_bias=False, rope=True,
        qk_norm=("q_layernorm", "k_layernorm") if c.flag("qk_layernorm") else None, per_head=True,
    )  # fmt: skip
    parallel = c.flag("use_parallel_residual")
    norms = ("input_layernorm",) if parallel else ("input_layernorm", "post_attention_layernorm")
    layer = Layer(attention, Gated(), norms, "parallel" if parallel else "pre")
    return decoder(c, "stablelm", layer, sizes, c.layers(), names=LLAMA_NAMES, tied=c.flag("tie_word_embeddings"))

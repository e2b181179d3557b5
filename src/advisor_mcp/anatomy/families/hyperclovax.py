"""HyperCLOVA X: Granite's layer, with a norm after attention and MLP as well unless `use_post_norm` is false."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.granite import attention
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated
from advisor_mcp.anatomy.variants import PRE_NORM, Order, axes_of, dense, with_ffn

MODEL_TYPES = ("hyperclovax",)
PERI_NORM = Order("input_layernorm", "post_norm1", "post_attention_layernorm", "post_norm2")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' HyperCLOVAXConfig (5.23.0)."""
    order = PERI_NORM if c.flag("use_post_norm", default=True) else PRE_NORM
    sizes, feed = with_ffn(c, axes_of(c)), Gated(bias=c.flag("mlp_bias"))
    c.divides(sizes["h"], sizes["qh"], "the heads do not divide hidden_size")
    return dense(c, "hyperclovax", attention(c), feed, sizes, order=order, tied=c.flag("tie_word_embeddings"))

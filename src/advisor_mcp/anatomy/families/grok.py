"""Grok 1 and 2: four norms a layer, experts, and in Grok 2 a dense MLP beside them."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import Experts, Gated, Mixture, expert_axes
from advisor_mcp.anatomy.variants import Heads, Order, axes_of, decoder
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = ("grok-1", "git")
ORDER = Order("pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm")
EXPERTS_1 = Experts("moe_block.gate", prefix="moe_block.experts.{expert}.", names=("linear", "linear_v", "linear_1"))
EXPERTS_2 = Experts("block_sparse_moe.gate", prefix="block_sparse_moe.experts.{expert}.", names=("w1", "w3", "w2"))


def describe(c: Config) -> Architecture:
    """A configuration of Grok-1 in Hugging Face's layout, or of Grok-2, whose file calls its model type "git"."""
    return _second(c) if c.text("model_type") == "git" else _first(c)


def _first(c: Config) -> Architecture:
    sizes = axes_of(c) | expert_axes(c, "num_experts", "intermediate_size")
    tied, attention = c.flag("tie_word_embeddings", default=True), Heads(prefix="attn.")
    return _decoder(c, attention, Mixture(EXPERTS_1), sizes, tied)


def _second(c: Config) -> Architecture:
    if not c.given("num_local_experts"):
        # transformers has a GIT of its own, an image captioner
        raise CannotAnswer(
            'the model type "git" is described for Grok-2 alone, and the configuration has no num_local_experts',
            needs=["num_local_experts"],
        )
    dense = c.flag("residual_moe")
    width = "moe_intermediate_size" if c.given("moe_intermediate_size") else "intermediate_size"
    sizes = axes_of(c, "Grok-2", head_dim=128) | expert_axes(c, "num_local_experts", width)
    if dense:
        sizes["ffn"] = c.number("intermediate_size")
    feed = Mixture(EXPERTS_2, Gated() if dense else None, "mlp.")
    return _decoder(c, Heads(), feed, sizes, c.flag("tie_word_embeddings"))


def _decoder(c: Config, attention: Heads, feed: Mixture, sizes: dict[str, int], tied: bool) -> Architecture:
    kinds = ["moe-full"] * c.layers()
    return decoder(c, "grok", kinds, {"full": Span()}, attention, {"moe": feed}, sizes, order=ORDER, tied=tied)

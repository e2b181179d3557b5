"""Llama's layer under the names of others: Aquila 1 and 2, XVERSE (with experts too), Yi before it was published as a Llama."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import Experts, Gated, Mixture
from advisor_mcp.anatomy.variants import PRE_NORM, Heads, Order, axes_of, decoder, dense, with_ffn
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("aquila", "xverse", "Yi")


def describe(c: Config) -> Architecture:
    """A configuration of AquilaConfig, XverseConfig or YiConfig, all without biases."""
    family = c.text("model_type") or "aquila"
    if c.given("num_experts"):
        return _mixture(c, family)
    order = Order(before_attention="ln1", before_feed="ln2") if family == "Yi" else PRE_NORM
    return dense(c, family, Heads(), Gated(), with_ffn(c, axes_of(c)), order=order, tied=c.flag("tie_word_embeddings"))


def _mixture(c: Config, family: str) -> Architecture:
    """XVERSE-MoE: experts in every layer, `intermediate_size` is the width of one, shared ones are as many times wider."""
    if family != "xverse":
        raise CannotAnswer(
            f"num_experts is set, and mixtures of experts are not described for the model type {shown(family)}"
        )
    number, used, width = c.number("num_experts"), c.number("moe_top_k"), c.number("intermediate_size")
    if used > number:
        raise UsageError(f"the configuration contradicts itself: moe_top_k {used} exceeds its {number} experts")
    sizes = axes_of(c) | {"expert": number, "choices": number, "topk": used, "moe_ffn": width}
    shared = c.optional("num_shared_experts")
    if shared:
        sizes["shared_ffn"] = shared * width
    feed = Mixture(Experts("mlp.router"), Gated(axis="shared_ffn", role="shared_expert") if shared else None)
    kinds, tied = ["moe-full"] * c.layers(), c.flag("tie_word_embeddings")
    return decoder(c, family, kinds, {"full": Span()}, Heads(), {"moe": feed}, sizes, tied=tied)

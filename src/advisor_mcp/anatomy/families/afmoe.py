"""Arcee's Trinity: four norms a layer, gated attention over a window or everything, shared and routed experts."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Draft, Experts, Feed, Gated, Mixture, expert_axes
from advisor_mcp.anatomy.variants import Heads, Order, axes_of, decoder, every, spans_of

MODEL_TYPES = ("afmoe",)
CLASS = "AfmoeConfig"
ORDER = Order("input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm")


@dataclass(frozen=True, slots=True)
class Biased:
    """A mixture whose experts are chosen by score plus a bias, which is a parameter."""

    mixture: Mixture
    bias: str = "mlp.expert_bias"

    def write(self, b: Draft, source: str) -> None:
        """Add the bias and the mixture."""
        b.tensor(self.bias, ("choices",), "router")
        self.mixture.write(b, source)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' AfmoeConfig."""
    layers, bias = c.layers(), c.flag("attention_bias")
    dense = min(c.number("num_dense_layers", default=1, of=CLASS, least=0), layers)
    sizes = axes_of(c, CLASS, head_dim=128)
    feeds: dict[str, Feed] = {"dense": Gated()}
    if dense:
        sizes["ffn"] = c.number("intermediate_size")
    if dense < layers:
        sizes |= expert_axes(c, "num_experts")
        shared = c.number("num_shared_experts", default=2, of=CLASS, least=0)
        sizes |= {"shared_ffn": shared * sizes["moe_ffn"]} if shared else {}
        gated = Gated(axis="shared_ffn", role="shared_expert") if shared else None
        feeds["moe"] = Biased(Mixture(Experts(router="mlp.router.gate"), gated))
    reach = every(c, c.number("global_attn_every_n_layers", default=4))
    kinds = [f"{'dense' if index < dense else 'moe'}-{span}" for index, span in enumerate(reach)]
    attention = Heads(q_bias=bias, kv_bias=bias, o_bias=bias, qk_norm="head", gate="gate_proj")
    spans, tied = spans_of(c, 1024, CLASS), c.flag("tie_word_embeddings")
    return decoder(c, "afmoe", kinds, spans, attention, feeds, sizes, order=ORDER, tied=tied)

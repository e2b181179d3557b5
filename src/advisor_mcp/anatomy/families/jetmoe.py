"""JetMoE: experts in the attention too, each with its own query and output projection over shared keys and values."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Span
from advisor_mcp.anatomy.parts import RESIDUAL, Draft, attend, expert_axes, kv_cache
from advisor_mcp.anatomy.variants import StackedExperts, decoder

MODEL_TYPES = ("jetmoe",)
EXPERTS = StackedExperts(
    router="mlp.router.layer", matrices=("mlp.input_linear.weight", "mlp.output_linear.weight"), bias="mlp.bias"
)


@dataclass(frozen=True, slots=True)
class ExpertAttention:
    """Mixture of attention heads: a token's chosen experts project its queries and its output; keys and values are shared."""

    prefix: str = "self_attention."

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the router, the experts' projections, the attention and its cache."""
        rows: Axes = (*b.tokens, "topk")
        experts = f"{self.prefix}experts."
        b.linear(f"{experts}router.layer", source, "scores_att", ("choices", "h"), "router")
        b.op("top_k", ("scores_att",), "routes_att", rows)
        up = b.tensor(f"{experts}input_linear.weight", ("expert", "kv", "h"), "routed_experts", matrix=True)
        b.op("linear", (source, "routes_att"), "q", (*rows, "kv"), ((2, (*rows, "h", "kv")),), [up])
        b.linear(f"{self.prefix}kv_proj", source, "kvp", ("kv_pair", "h"), "attention")
        b.op("rope", ("q", "kvp"), "qr", (*rows, "kv"))
        attend(b, span, reads=("qr", "kvp"))
        b.caches.append(kv_cache(span, ((2, ("kvh", "hd")),)))
        down = b.tensor(f"{experts}output_linear.weight", ("expert", "h", "kv"), "routed_experts", matrix=True)
        b.op("linear", ("att",), "o_rows", (*rows, "h"), ((2, (*rows, "h", "kv")),), [down])
        bias = b.tensor(f"{experts}bias", ("h",), "attention")
        b.op("combine", ("o_rows", "routes_att"), "o", RESIDUAL, weights=[bias])


def describe(c: Config) -> Architecture:
    """A configuration of transformers' JetMoeConfig: as many query heads as KV heads times experts used."""
    of = "JetMoeConfig"
    kvh = c.number("num_key_value_heads", default=16, of=of)
    sizes = {"h": c.number("hidden_size"), "kvh": kvh, "hd": c.number("kv_channels", "head_dim", default=128, of=of)}
    sizes |= expert_axes(c, "num_local_experts", "intermediate_size") | {"vocab": c.number("vocab_size")}
    sizes["qh"] = kvh * sizes["topk"]
    kinds, feeds = ["moe-full"] * c.layers(), {"moe": EXPERTS}
    tied = c.flag("tie_word_embeddings", default=True)
    return decoder(c, "jetmoe", kinds, {"full": Span()}, ExpertAttention(), feeds, sizes, tied=tied)

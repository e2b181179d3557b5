"""ERNIE 4.5: Llama's layer with one switch for every bias, and mixtures whose routers hold a bias as a parameter."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import GROUPED_DERIVED, Draft, Experts, Gated, Grouped, grouped_axes
from advisor_mcp.anatomy.sparse import Filled, Layer, mixture, mixture_axes, stack

MODEL_TYPES = ("ernie4_5", "ernie4_5_moe")
DENSE = {"num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 128}
MOE = {
    "num_attention_heads": 20, "num_key_value_heads": 4, "moe_num_experts": 64, "moe_k": 6, "moe_intermediate_size": 1536,
    "moe_num_shared_experts": 2, "moe_layer_start_index": 1, "moe_layer_interval": 1,
}  # fmt: skip
ROUTER_BIAS = "mlp.moe_statics.e_score_correction_bias"


class Balanced:
    """A mixture whose router has a trained bias for the choice of experts; `rows` sets of experts have one each."""

    def __init__(self, sizes: dict[str, int], bias: bool) -> None:
        self.mixture = mixture(sizes, Experts(), bias=bias)

    def write(self, b: Draft, source: str) -> None:
        """Add the mixture and the bias."""
        self.mixture.write(b, source)
        b.tensor(ROUTER_BIAS, (1, "choices"), "router", dtype="fp32")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Ernie4_5Config or Ernie4_5_MoeConfig (5.23.0); both tie by default."""
    family = c.text("model_type") or "ernie4_5"
    routed = family == "ernie4_5_moe"
    f = Filled(c, "Ernie4_5_MoeConfig" if routed else "Ernie4_5Config", MOE if routed else DENSE)
    bias = f.flag("use_bias")
    sizes = grouped_axes(f, head_dim=None if routed else DENSE["head_dim"]) | {"vocab": f.number("vocab_size")}
    kinds = _kinds(f) if routed else ["dense"] * f.layers()
    attention = Grouped(q_bias=bias, kv_bias=bias, o_bias=bias)
    table = {"dense": Layer(attention, Gated(bias=bias))}
    if "dense" in kinds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in kinds:
        sizes |= mixture_axes(f, "moe_num_experts", "moe_num_shared_experts", used=("moe_k", "num_experts_per_tok"))
        table["moe"] = Layer(attention, Balanced(sizes, bias))
    tied = f.flag("tie_word_embeddings", default=True)
    return stack(
        c, family, kinds, table, sizes, GROUPED_DERIVED, tied=tied, head_bias=bias and routed, not_described=missing(f)
    )


def _kinds(f: Filled) -> list[str]:
    layers = f.layers()
    first, every = f.number("moe_layer_start_index", least=0), f.number("moe_layer_interval")
    last = f.number("moe_layer_end_index", default=-1, least=-1)
    last = layers - 1 if last == -1 else last
    return ["moe" if first <= index <= last and (index + 1) % every == 0 else "dense" for index in range(layers)]


def missing(f: Filled) -> tuple[str, ...]:
    """What checkpoints hold beside the model and is not described: ERNIE's prediction layers."""
    found = f.number("num_nextn_predict_layers", default=0, least=0)
    return (f"{found} prediction layer(s) that the checkpoint holds beside the model are not counted",) if found else ()

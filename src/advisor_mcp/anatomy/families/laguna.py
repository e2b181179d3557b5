"""poolside's Laguna: gated attention with as many query heads as each layer lists, over a window or everything, and experts."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.afmoe import Biased
from advisor_mcp.anatomy.inventory import Architecture, Span, Terms
from advisor_mcp.anatomy.parts import Feed, Gated, grouped_axes
from advisor_mcp.anatomy.sparse import MLP_KINDS, Filled, Layer, Varied, mixture, mixture_axes, stack, varied_derived
from advisor_mcp.anatomy.variants import LAYER_KINDS
from advisor_mcp.errors import CannotAnswer, shown

MODEL_TYPES = ("laguna",)
OF = "LagunaConfig"
DEFAULTS = {
    "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128, "num_experts": 256, "num_experts_per_tok": 8,
    "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "sliding_window": 512,
}  # fmt: skip
TAGGED = ("qh", "q", "out")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' LagunaConfig (5.23.0); tensor names are those of the published checkpoints."""
    f = Filled(c, OF, DEFAULTS)
    sizes = grouped_axes(f, OF, heads=48, kv_heads=8, head_dim=128) | {"vocab": f.number("vocab_size")}
    layers = f.layers()
    feeds = f.layer_kinds("mlp_layer_types", layers, MLP_KINDS) or ["dense"] + ["moe"] * (layers - 1)
    reach = f.layer_kinds("layer_types", layers, LAYER_KINDS) or ["full"] * layers
    tags = _heads(f, sizes, layers)
    kinds = [f"{feed}-{span}{tag}" for feed, span, tag in zip(feeds, reach, tags, strict=True)]
    if "dense" in feeds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in feeds:
        sizes |= mixture_axes(f, "num_experts", None)
        sizes["shared_ffn"] = f.number("shared_expert_intermediate_size")
    spans = {"full": Span(), "sliding": Span(window=f.number("sliding_window")) if "sliding" in reach else Span()}
    parts: dict[str, Feed] = {
        "dense": Gated(),
        "moe": Biased(mixture(sizes, shared="mlp.shared_expert."), "mlp.experts.e_score_correction_bias"),
    }
    wide, bias = _gate(c), f.flag("attention_bias")
    table = {}
    for kind, feed, span, tag in zip(kinds, feeds, reach, tags, strict=True):
        attention = Varied(tag, TAGGED if tag else (), "hd", bias, bias, "head", "g_proj", gate_wide=wide)
        table[kind] = Layer(attention, parts[feed], spans[span])
    derived: dict[str, Terms] = {}
    for tag in dict.fromkeys(tags):
        derived |= varied_derived(tag, TAGGED if tag else ())
    return stack(f, "laguna", kinds, table, sizes, derived)


def _heads(f: Filled, sizes: dict[str, int], layers: int) -> list[str]:
    """A mark for each layer that has another number of query heads than the first; adds their axes."""
    listed = f.numbers("num_attention_heads_per_layer", length=layers, least=1)
    if listed is None:
        return [""] * layers
    for heads in listed:
        f.divides(heads, sizes["kvh"], "the KV heads do not divide the attention heads of a layer")
    sizes["qh"] = listed[0]
    sizes |= {f"qh.{heads}": heads for heads in listed if heads != listed[0]}
    return ["" if heads == listed[0] else f".{heads}" for heads in listed]


def _gate(c: Config) -> bool:
    """Whether the attention's output gate has a number per element, not one per head."""
    gating = c.data.get("gating")
    if gating is not None and gating is not True and gating not in ("per-head", "per-element"):
        raise CannotAnswer(f"gating is {shown(gating)}; Laguna is described with true, 'per-head' and 'per-element'")
    return bool(gating == "per-element")

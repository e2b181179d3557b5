"""MiMo-V2: keys wider than values, windows with sinks and more KV heads in most layers, experts after the first layer."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span, Terms
from advisor_mcp.anatomy.parts import Gated
from advisor_mcp.anatomy.sparse import (
    Beside,
    Filled,
    Layer,
    Varied,
    flags,
    listed_or_first,
    mixture,
    mixture_axes,
    stack,
    suffixed,
    varied_derived,
)
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = ("mimo_v2_flash", "mimo_v2")
OF = "MiMoV2FlashConfig"
DEFAULTS = {
    "num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 192, "v_head_dim": 128, "n_routed_experts": 256,
    "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "sliding_window": 128,
}  # fmt: skip
SPAN_KINDS = {"full_attention": "", "sliding_attention": "sliding"}
WIDER = ("kvh", "k", "v")  # what windowed layers have in another number
TAG = ".sliding"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MiMoV2FlashConfig (5.23.0) or of the published files' own fields.

    Prediction layers, which the checkpoints hold beside the model, are named but not counted.
    """
    family = c.text("model_type") or "mimo_v2_flash"
    f = Filled(c, OF, DEFAULTS)
    spans, feeds = _spans(f), _feeds(f)
    kinds = suffixed(feeds, spans)
    sizes = _axes(f, "sliding" in spans)
    if "dense" in feeds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in feeds:
        sizes |= mixture_axes(f)
    derived: dict[str, Terms] = varied_derived(vd="v_dim")
    if "sliding" in spans:
        derived |= varied_derived(TAG, WIDER, "v_dim")
    window = Span(window=f.number("sliding_window", "sliding_window_size"))
    table = {
        kind: Layer(
            _attention(f, kind.endswith("sliding")),
            Gated() if kind.startswith("dense") else mixture(sizes),
            window if kind.endswith("sliding") else Span(),
        )
        for kind in dict.fromkeys(kinds)
    }
    missing = _missing(f)
    return stack(c, family, kinds, table, sizes, derived, beside=Beside(), not_described=missing)


def _attention(f: Filled, windowed: bool) -> Varied:
    """Learned sinks stand in windowed layers unless the files say otherwise."""
    bias = f.flag("attention_bias")
    sinks = f.flag("add_swa_attention_sink_bias", default=True) if windowed else f.flag("add_full_attention_sink_bias")
    tag, tagged = (TAG, WIDER) if windowed else ("", ())
    return Varied(tag, tagged, vd="v_dim", qkv_bias=bias, sinks="attention_sink_bias" if sinks else "")


def _axes(f: Filled, windowed: bool) -> dict[str, int]:
    heads, kv_heads = f.number("num_attention_heads"), f.number("num_key_value_heads")
    f.divides(heads, kv_heads, "the KV heads do not divide the attention heads")
    sizes = {
        "h": f.number("hidden_size"),
        "vocab": f.number("vocab_size"),
        "qh": heads,
        "kvh": kv_heads,
        "hd": f.number("head_dim"),
        "v_dim": f.number("v_head_dim"),
    }
    same = {"swa_num_attention_heads": heads, "swa_head_dim": sizes["hd"], "swa_v_head_dim": sizes["v_dim"]}
    if any(f.number(name, default=value) != value for name, value in same.items()):
        raise CannotAnswer(f"MiMo-V2 is described with the same {', '.join(same)} in windowed layers as in the others")
    if windowed:
        # the class doubles the KV heads of windowed layers; the published files give their number
        sizes[f"kvh{TAG}"] = f.number("swa_num_key_value_heads", default=2 * kv_heads)
        f.divides(heads, sizes[f"kvh{TAG}"], "the KV heads of windowed layers do not divide the attention heads")
    return sizes


def _spans(f: Filled) -> list[str]:
    layers = f.layers()
    listed = f.layer_kinds("layer_types", layers, SPAN_KINDS)
    pattern = flags(f, "hybrid_layer_pattern", layers)
    if listed is None and pattern is not None:
        return ["sliding" if windowed else "" for windowed in pattern]
    return listed or ["sliding" if index and (index + 1) % 6 else "" for index in range(layers)]


def _feeds(f: Filled) -> list[str]:
    layers = f.layers()
    routed = flags(f, "moe_layer_freq", layers) if isinstance(f.data.get("moe_layer_freq"), list) else None
    if routed is not None and not f.given("mlp_layer_types"):
        return ["moe" if experts else "dense" for experts in routed]
    return listed_or_first(f, 1)


def _missing(f: Filled) -> tuple[str, ...]:
    found = f.number("num_nextn_predict_layers", default=0, least=0)
    return (f"{found} prediction layer(s) that the checkpoint holds beside the model are not counted",) if found else ()

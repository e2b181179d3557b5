"""Step-3.5 and Step-3.7 Flash: gated attention with more query heads in windowed layers, stacked experts, a vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from advisor_mcp.anatomy import towers_plain as towers
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block, Span, Terms
from advisor_mcp.anatomy.multimodal import NO_VISION, joined
from advisor_mcp.anatomy.parts import Draft, Gated
from advisor_mcp.anatomy.sparse import (
    MLP_KINDS,
    SHARED,
    Beside,
    Filled,
    Layer,
    Varied,
    mixture_axes,
    prediction_layers,
    stack,
    suffixed,
    varied_derived,
)
from advisor_mcp.anatomy.variants import StackedExperts
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("step3p7", "step3p5")
TEXT = {
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "num_experts_per_tok": 8, "n_routed_experts": 288,
    "moe_intermediate_size": 1280, "share_expert_dim": 1280,
}  # fmt: skip
VISION = {
    "hidden_size": 1536, "num_hidden_layers": 47, "num_attention_heads": 16, "num_channels": 3, "image_size": 728,
    "patch_size": 14,
}  # fmt: skip
SPAN_KINDS = {"full_attention": "", "sliding_attention": "sliding"}
TAG, WIDER = ".sliding", ("qh", "q", "out")
EXPERTS = StackedExperts("moe.gate", ("moe.gate_proj.weight", "moe.up_proj.weight", "moe.down_proj.weight"))
NAMES = towers.Names(
    "vision_model.transformer.resblocks.{layer}.", ("ln_1", "ln_2"), ("attn.in_proj",), "attn.out_proj",
    ("mlp.c_fc", "mlp.c_proj"), joined_tensor=True, scales=("ls_1.gamma", "ls_2.gamma"),
)  # fmt: skip
RATIO = 8960 / 1536  # of the vision MLP to its width, in Step3p7VisionConfig


@dataclass(frozen=True, slots=True)
class Shared:
    """The stacked experts and the shared expert beside them, whose matrices may have biases."""

    bias: bool = False

    def write(self, b: Draft, source: str) -> None:
        """Add both and their sum."""
        EXPERTS.write(b, source, "routed")
        replace(SHARED, bias=self.bias).write(b, source, "shared", "share_expert.")
        b.add("routed", "shared", "y")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Step3p7Config, or of its decoder alone (5.23.0)."""
    family = c.text("model_type") or "step3p7"
    text = c.part("text_config") if family == "step3p7" else c
    if text is None:
        raise CannotAnswer("the configuration has no text_config, which this model type needs", needs=["text_config"])
    tied = c.flag("tie_word_embeddings", default=text.flag("tie_word_embeddings"))
    decoder = _decoder(c, text, family, tied)
    vision = c.part("vision_config")
    if family == "step3p5" or vision is None:
        return joined(c, family, decoder, [], {}, {}, [] if family == "step3p5" else [NO_VISION])
    sizes: dict[str, int] = {}
    blocks = _tower(c, vision, decoder.sizes["h"], sizes)
    return joined(c, family, decoder, blocks, sizes)


def _decoder(c: Config, text: Config, family: str, tied: bool) -> Architecture:
    f = Filled(text, "Step3p7TextConfig", TEXT)
    ahead = prediction_layers(f)
    spans, feeds = _spans(f, ahead), _feeds(f, ahead)
    kinds = suffixed(feeds, spans)
    sizes = _axes(f, "sliding" in spans)
    layers = f.layers()
    if "dense" in feeds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in feeds:
        sizes |= mixture_axes(f, "moe_num_experts", None, used=("moe_top_k", "num_experts_per_tok"))
        sizes["shared_ffn"] = f.number("share_expert_dim", "share_expert_dims")
    derived: dict[str, Terms] = varied_derived() | (varied_derived(TAG, WIDER) if "sliding" in spans else {})
    window = Span(window=f.optional("sliding_window")) if "sliding" in spans else Span()
    bias = f.flag("attention_bias")
    table = {
        kind: Layer(_attention(bias, kind), _feed(kind, f.flag("mlp_bias")), window if "sliding" in kind else Span())
        for kind in dict.fromkeys(kinds)
    }
    same = len(set(kinds[layers:])) == 1
    beside = Beside("moe.router_bias", ahead if same else 0, kinds[layers] if same else None)
    missing = () if same or not ahead else (f"{ahead} prediction layers of different kinds are not counted",)
    return stack(c, family, kinds[:layers], table, sizes, derived, beside=beside, tied=tied, not_described=missing)


def _attention(bias: bool, kind: str) -> Varied:
    tag, tagged = (TAG, WIDER) if "sliding" in kind else ("", ())
    return Varied(tag, tagged, qkv_bias=bias, o_bias=bias, qk_norm="head", gate="g_proj")


def _feed(kind: str, bias: bool) -> Gated | Shared:
    return Gated(bias=bias) if kind.startswith("dense") else Shared(bias)


def _axes(f: Filled, windowed: bool) -> dict[str, int]:
    heads = f.number("num_attention_heads")
    sizes = {
        "h": f.number("hidden_size"),
        "vocab": f.number("vocab_size"),
        "qh": heads,
        "kvh": f.number("num_attention_groups", "num_key_value_heads"),
        "hd": f.number("head_dim"),
    }
    f.divides(heads, sizes["kvh"], "the KV heads do not divide the attention heads")
    if not f.flag("use_head_wise_attn_gate", default=True):
        raise CannotAnswer("Step-3.5 and Step-3.7 are described with use_head_wise_attn_gate")
    if windowed:
        sizes[f"qh{TAG}"] = _windowed_heads(f, sizes)
        f.divides(sizes[f"qh{TAG}"], sizes["kvh"], "the KV heads do not divide the heads of windowed layers")
    return sizes


def _windowed_heads(f: Filled, sizes: dict[str, int]) -> int:
    other = f.part("attention_other_setting") or Config({}, notes=f.notes)
    same = {"num_attention_groups": sizes["kvh"], "head_dim": sizes["hd"]}
    if any(other.number(name, default=value) != value for name, value in same.items()):
        raise CannotAnswer("attention_other_setting changes KV heads or head_dim, which is not described")
    return f.number("num_sliding_attention_heads", default=other.number("num_attention_heads", default=sizes["qh"]))


def _listed(f: Filled, name: str, known: dict[str, str], ahead: int) -> list[str] | None:
    """A per-layer list, which may go on over the prediction layers."""
    layers, found = f.layers(), f.entries(name)
    return f.layer_kinds(name, layers + ahead if found and len(found) != layers else layers, known)


def _padded(kinds: list[str], layers: int, ahead: int, with_: str) -> list[str]:
    return kinds + [with_] * (layers + ahead - len(kinds))


def _spans(f: Filled, ahead: int) -> list[str]:
    layers = f.layers()
    listed = _listed(f, "layer_types", SPAN_KINDS, ahead)
    return _padded(listed or [""] * layers, layers, ahead, "")


def _feeds(f: Filled, ahead: int) -> list[str]:
    layers = f.layers()
    listed = _listed(f, "mlp_layer_types", MLP_KINDS, ahead)
    if listed is not None:
        return _padded(listed, layers, ahead, "dense")
    routed = routed_layers(f, range(3, layers))
    return ["moe" if index in routed else "dense" for index in range(layers + ahead)]


def routed_layers(f: Config, otherwise: Sequence[int]) -> Sequence[int] | set[int]:
    """The layers of experts: a list or a text of numbers with commas; `otherwise` where there is none."""
    given = f.data.get("moe_layers_enum")
    if given is None:
        return otherwise
    items = given.split(",") if isinstance(given, str) else given
    if not isinstance(items, list):
        raise UsageError(f"{f.prefix}moe_layers_enum in the configuration must list layer numbers, not {shown(given)}")
    found = set()
    for item in items:
        text = str(item).strip()
        if text and not text.isdecimal():
            raise UsageError(
                f"{f.prefix}moe_layers_enum in the configuration must list layer numbers, not {shown(item)}"
            )
        found |= {int(text)} if text and len(text) < 6 else set()
    return found


def _tower(c: Config, vision: Config, text_width: int, sizes: dict[str, int]) -> list[Block]:
    v = Filled(vision, "Step3p7VisionConfig", VISION)
    width = v.number("width", "hidden_size")
    sizes |= towers.axes(v, width, v.number("heads", "num_attention_heads"), _ffn(v, width))
    sizes |= {"vision.twice": 2 * width, "vision.four": 4 * width}
    side = v.number("patch_size")
    sizes["vision.positions"] = (v.number("image_size") // side) ** 2
    if not sizes["vision.positions"]:
        raise UsageError("vision_config.image_size in the configuration is smaller than one patch")
    first = Draft("vision-embedding", "vision_model.", towers.PATCHES)
    towers.patches(first, "conv1", (v.number("num_channels"), side, side), bias=False)
    towers.positions(first, "positional_embedding", ("vision.positions",))
    first.norm("ln_pre", "xp", "n", "layer", "vision.h", "vision")
    last = Draft("vision-projector", "", towers.MERGED)
    last.value("out", (*towers.PATCHES, "vision.h"))
    towers.convolution(last, "vision_model.vit_downsampler1", "out", "d1", ("vision.twice", "vision.h"), 3)
    towers.convolution(last, "vision_model.vit_downsampler2", "d1", "d2", ("vision.four", "vision.twice"), 3)
    last.linear("vit_large_projector", "d2", "y", (text_width, "vision.four"), "vision", c.flag("projector_bias"))
    depth = towers.depth_of(v, "layers", "num_hidden_layers")
    return [first.block((0,), "vision"), towers.layers(NAMES, depth), last.block((0,), "vision")]


def _ffn(v: Config, width: int) -> int:
    ratio = v.data.get("mlp_ratio")
    if ratio is None:
        return int(width * RATIO)
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio < 10_000:
        raise UsageError(f"{v.prefix}mlp_ratio in the configuration must be a number above 0, not {shown(ratio)}")
    ffn = int(width * ratio)
    if not ffn:
        raise UsageError(f"{v.prefix}mlp_ratio in the configuration makes an MLP without a width")
    return ffn

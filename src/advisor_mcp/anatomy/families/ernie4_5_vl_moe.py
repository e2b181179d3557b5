"""ERNIE 4.5 VL: two sets of experts in a layer, one for text and one for images, behind a vision tower and a resampler."""

from __future__ import annotations

from collections.abc import Mapping

from advisor_mcp.anatomy import towers_plain as towers
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.ernie4_5 import missing
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block
from advisor_mcp.anatomy.multimodal import NO_VISION, joined
from advisor_mcp.anatomy.parts import GROUPED_DERIVED, Draft, Experts, Gated, Grouped, grouped_axes
from advisor_mcp.anatomy.sparse import Filled, Layer, listed_or_first, mixture, same_for_all, stack
from advisor_mcp.errors import UsageError, shown

MODEL_TYPES = ("ernie4_5_vl_moe", "ernie4_5_moe_vl")
OF = "Ernie4_5_VLMoeTextConfig"
TEXT = {"num_attention_heads": 20, "num_key_value_heads": 4, "moe_num_shared_experts": 2}
VISION = {
    "depth": 32, "hidden_size": 1280, "num_heads": 16, "in_channels": 3, "patch_size": 14, "spatial_merge_size": 2,
    "temporal_merge_size": 2,
}  # fmt: skip
WIDTHS = [1536, 512]
NAMES = towers.Names(
    "vision_model.blocks.{layer}.", ("norm1", "norm2"), ("attn.qkv",), "attn.proj", ("mlp.fc1", "mlp.fc2")
)
RESAMPLER = "model.resampler_model."


class TwoSets:
    """Experts for text and experts for images, of which a token of text uses none, with shared experts for both."""

    def __init__(self, sizes: Mapping[str, int], bias: bool) -> None:
        self.text = mixture(sizes, Experts(), bias=bias)

    def write(self, b: Draft, source: str) -> None:
        """Add the text's mixture with its operations, and the images' routers and experts as tensors."""
        self.text.write(b, source)
        b.tensor("mlp.moe_statics.e_score_correction_bias", (2, "choices"), "router", dtype="fp32")
        b.tensor("mlp.gate.weight_1", ("choices", "h"), "router", matrix=True)
        # the checkpoint numbers these experts on after the text's
        each, copies = "mlp.vision_moe.experts.{expert}.", ("expert.vision",)
        shape: Axes = ("moe_ffn.vision", "h")
        for name, axes in (("gate_proj", shape), ("up_proj", shape), ("down_proj", shape[::-1])):
            b.tensor(f"{each}{name}.weight", axes, "routed_experts", copies, matrix=True)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Ernie4_5_VLMoeConfig (5.23.0), or of the published files' own flat fields."""
    family = c.text("model_type") or "ernie4_5_vl_moe"
    text = c.part("text_config") or c
    f = Filled(text, OF, TEXT)
    bias = f.flag("use_bias")
    sizes = grouped_axes(f) | {"vocab": f.number("vocab_size")}
    kinds = listed_or_first(f, _first(f))
    attention = Grouped(q_bias=bias, kv_bias=bias, o_bias=bias)
    table = {"dense": Layer(attention, Gated(bias=bias))}
    routing = {}
    if "dense" in kinds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in kinds:
        sizes |= _experts(f)
        table["moe"] = Layer(attention, TwoSets(sizes, bias))
        routing = {"expert": "topk", "expert.vision": "topk"}
    tied = c.flag("tie_word_embeddings", default=text.flag("tie_word_embeddings", default=True))
    decoder = stack(
        c, family, kinds, table, sizes, GROUPED_DERIVED, tied=tied, routing=routing, not_described=missing(f)
    )
    vision = c.part("vision_config")
    if vision is None:
        return joined(c, family, decoder, [], {}, {}, [NO_VISION])
    towers_sizes: dict[str, int] = {}
    blocks = _tower(c, Filled(vision, "Ernie4_5_VLMoeVisionConfig", VISION), decoder.sizes["h"], towers_sizes)
    return joined(c, family, decoder, blocks, towers_sizes)


def _first(f: Filled) -> int:
    """The first layer with experts; the published files give it for text and for images, and they agree."""
    value = f.data.get("moe_layer_start_index")
    return 1 if value is None else same_for_all(f, "moe_layer_start_index", least=0)


def _experts(f: Filled) -> dict[str, int]:
    number = same_for_all(f, "moe_num_experts", "num_experts", default=64)
    used = f.number("moe_k", "num_experts_per_tok", default=6, of=OF)
    widths = f.entries("moe_intermediate_size") or WIDTHS
    if len(widths) != 2 or any(not isinstance(w, int) or isinstance(w, bool) or w < 1 for w in widths):
        raise UsageError(
            f"{f.prefix}moe_intermediate_size in the configuration must list a width for text and one for images, "
            f"not {shown(widths)}"
        )
    if used > number:
        raise UsageError(f"the configuration contradicts itself: moe_k {used} exceeds its {number} experts")
    sizes = {"expert": number, "expert.vision": number, "choices": number, "topk": used}
    sizes |= {"moe_ffn": widths[0], "moe_ffn.vision": widths[1]}
    shared = f.number("moe_num_shared_experts", least=0) * widths[0]
    return sizes | ({"shared_ffn": shared} if shared else {})


def _tower(c: Config, v: Filled, text_width: int, sizes: dict[str, int]) -> list[Block]:
    width = v.number("hidden_size", "embed_dim")
    sizes |= towers.axes(v, width, v.number("num_heads", "num_attention_heads"), _ffn(v, width))
    space = c.number("spatial_conv_size", default=v.number("spatial_merge_size"))
    time = c.number("temporal_conv_size", default=v.number("temporal_merge_size"))
    sizes |= {"vision.merged": width * space * space, "vision.over_time": width * space * space * time}
    side = towers.square(v, "patch_size", 14)
    first = Draft("vision-embedding", "vision_model.", towers.PATCHES)
    towers.patches(first, "patch_embed.proj", (v.number("in_channels"), side, side), bias=False, flat=True)
    return [
        first.block((0,), "vision"),
        towers.layers(NAMES, towers.depth_of(v, "depth", "num_hidden_layers")),
        _resampler(text_width),
    ]


def _ffn(v: Filled, width: int) -> int:
    ratio = v.number("mlp_ratio", default=4)
    return v.number("intermediate_size", default=width * ratio)


def _resampler(text_width: int) -> Block:
    """Neighbouring patches joined in space and then in time, each by a small MLP and a norm, and a matrix to the decoder."""
    b = Draft("vision-resampler", "", towers.MERGED)
    b.value("x", (*towers.PATCHES, "vision.h"))
    b.norm("vision_model.ln", "x", "n", "layer", "vision.h", "vision", (*towers.MERGED, "vision.merged"))
    source = "n"
    for name, read in (("spatial", "vision.merged"), ("temporal", "vision.over_time")):
        part = f"{RESAMPLER}{name}_linear."
        b.linear(f"{part}0", source, f"{name}0", ("vision.merged", read), "vision", bias=True)
        b.linear(f"{part}2", f"{name}0", f"{name}2", ("vision.merged", "vision.merged"), "vision", bias=True)
        b.norm(f"{part}3", f"{name}2", f"{name}3", "layer", "vision.merged", "vision")
        source = f"{name}3"
    b.linear(f"{RESAMPLER}mlp", source, "p", (text_width, "vision.merged"), "vision", bias=True)
    b.norm(f"{RESAMPLER}after_norm", "p", "y", "rms", text_width, "vision")
    return b.block((0,), "vision")

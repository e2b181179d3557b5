"""InternVL 3 and 3.5 as transformers holds them: a Qwen (or other) decoder behind InternViT and a pixel shuffle."""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block
from advisor_mcp.anatomy.multimodal import filled, joined
from advisor_mcp.anatomy.nested import INSIDE, decoder, ratio, text_part, tie, vision_part
from advisor_mcp.anatomy.parts import Draft, Norm
from advisor_mcp.anatomy.towers import PATCHES, TOKENS, Layer, attention_axes, convolve, pair
from advisor_mcp.errors import CannotAnswer, shown

MODEL_TYPES = ("internvl",)
OF = "InternVLVisionConfig"
VISION = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": [448, 448], "patch_size": [14, 14],
}  # fmt: skip
NORMS: dict[str, Norm] = {"layer_norm": "layer", "rms_norm": "rms"}
LAYER = Layer(
    ("layernorm_before", "", "layernorm_after", ""), ("q_proj", "k_proj", "v_proj", "projection_layer"), "attention.",
    scales=("lambda_1", "lambda_2"), scale_axis="vision.h",
)  # fmt: skip


def describe(c: Config) -> Architecture:
    """A configuration of transformers' InternVLConfig (the files with `-HF` in their names)."""
    inner = decoder(c, "qwen2", tie(c, text_part(c), default=True))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        towers = _tower(filled(vision, OF, VISION), sizes)
        towers.append(_projector(int(1 / ratio(c, "downsample_ratio", 0.5)), inner.sizes["h"], sizes))
    return joined(c, "internvl", inner, towers, sizes, INSIDE, missing)


def _tower(c: Config, sizes: dict[str, int]) -> list[Block]:
    kind = c.text("norm_type") or "layer_norm"
    if kind not in NORMS:
        raise CannotAnswer(f"{c.prefix}norm_type is {shown(kind)}; described are {' and '.join(NORMS)}")
    (high, wide), patch = pair(c, "image_size"), pair(c, "patch_size")
    patches = (wide // patch[1]) * (high // patch[0])
    sizes |= {"vision.h": c.number("hidden_size"), "vision.ffn": c.number("intermediate_size")}
    sizes |= {"vision.patches": patches, "vision.tokens": patches + 1}
    attention_axes(c, sizes, "vision", c.number("num_attention_heads"))
    bias = c.flag("attention_bias")
    layer = replace(
        LAYER, norm=NORMS[kind], bias=(bias, bias, bias, True), qk_norm="vision.h" if c.flag("use_qk_norm") else None
    )
    shape: Axes = ("vision.h", c.number("num_channels", default=3), *patch)
    blocks = [
        _patches(c, shape),
        layer.block("vision-layer", "vision_tower.encoder.layer.{layer}.", c.layers(), TOKENS),
    ]
    if c.flag("use_mean_pooling", default=True):
        return blocks
    last = Draft("vision-norm", "vision_tower.", TOKENS)
    last.norm("layernorm", "x", "n", "layer", "vision.h", "vision")
    return [*blocks, last.block((0,), "vision")]


def _patches(c: Config, shape: Axes) -> Block:
    b = Draft("vision-embedding", "vision_tower.embeddings.", PATCHES)
    convolve(b, "patch_embeddings.projection", "pixels", "patches", shape, "vision", PATCHES, bias=True)
    for name, present in (("cls_token", True), ("mask_token", c.flag("use_mask_token"))):
        if present:
            b.tensor(name, (1, 1, "vision.h"), "vision")
    if c.flag("use_absolute_position_embeddings", default=True):
        b.tensor("position_embeddings", (1, "vision.tokens", "vision.h"), "vision")
    return b.block((0,), "vision")


def _projector(factor: int, text_width: int, sizes: dict[str, int]) -> Block:
    sizes["vision.joined"] = sizes["vision.h"] * factor**2
    b = Draft("vision-projector", "multi_modal_projector.", ("images", "vision.shuffled"))
    b.norm("layer_norm", "n", "pn", "layer", "vision.joined", "vision")
    b.linear("linear_1", "pn", "p1", (text_width, "vision.joined"), "vision", bias=True)
    b.op("activation", ("p1",), "pa", (*b.tokens, text_width))
    b.linear("linear_2", "pa", "p2", (text_width, text_width), "vision", bias=True)
    return b.block((0,), "vision")

"""Segment Anything's image encoder, as models that read documents use it. Its axes carry the prefix `sam.`"""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Axes, Axis, Block
from advisor_mcp.anatomy.multimodal import filled
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.towers import convolve
from advisor_mcp.errors import UsageError, shown

GRID: Axes = ("images", "sam.patches")
DEFAULTS = {
    "hidden_size": 768, "output_channels": 256, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 1024,
    "patch_size": 16, "window_size": 14, "global_attn_indexes": [2, 5, 8, 11],
}  # fmt: skip


def sam_tower(c: Config, sizes: dict[str, int], root: str, of: str = "SamVisionConfig") -> list[Block]:
    """Layers with windows, a few of which see the whole image, biases by distance along both sides, and a neck."""
    c = filled(c, of, DEFAULTS)
    side = _sizes(c, sizes)
    patch = c.number("patch_size")
    first, last = Draft("sam-embedding", root, GRID), Draft("sam-neck", root, GRID)
    pixels: Axes = ("sam.h", c.number("num_channels", default=3), patch, patch)
    convolve(first, "patch_embed.projection", "pixels", "p", pixels, "vision", GRID, bias=True)
    if c.flag("use_abs_pos", default=True):
        table = first.tensor("pos_embed", (1, side, side, "sam.h"), "vision")
        first.op("lookup", ("p",), "x", (*GRID, "sam.h"), weights=[table])
    neck(last, "neck.", "x", "hp")
    whole = set(c.numbers("global_attn_indexes") or [])
    depth = range(c.layers())
    near = tuple(layer for layer in depth if layer not in whole)
    far = tuple(layer for layer in depth if layer in whole)
    blocks = [_layer(c, root, "sam-layer", near, "sam.window", c.number("window_size"))] if near else []
    blocks += [_layer(c, root, "sam-layer-full", far, "sam.patches", side)] if far else []
    return [first.block((0,), "vision"), *blocks, last.block((0,), "vision")]


def _sizes(c: Config, sizes: dict[str, int]) -> int:
    """Adds the axes; returns the patches along one side."""
    h, heads = c.number("hidden_size"), c.number("num_attention_heads")
    side = c.number("image_size") // c.number("patch_size")
    if not side:
        raise UsageError(f"{c.prefix}image_size in the configuration is smaller than one patch")
    sizes |= {"sam.h": h, "sam.qkv": 3 * h, "sam.hd": c.divides(h, heads, "SAM's heads do not divide its hidden_size")}
    sizes |= {"sam.ffn": _ffn(c, h), "sam.out": c.number("output_channels")}
    sizes |= {"sam.patches": side * side, "sam.window": c.number("window_size") ** 2}
    return side


def _ffn(c: Config, h: int) -> int:
    ratio = c.data.get("mlp_ratio", 4.0)
    if c.given("mlp_dim"):
        return c.number("mlp_dim")
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0.01 <= ratio <= 1000 or int(h * ratio) < 1:
        raise UsageError(
            f"{c.prefix}mlp_ratio in the configuration must be a number from 0.01 to 1000, not {shown(ratio)}"
        )
    return int(h * ratio)


def _layer(c: Config, root: str, name: str, layers: tuple[int, ...], span: Axis, side: int) -> Block:
    b = Draft(name, f"{root}layers.{{layer}}.", GRID)
    b.value("x", (*GRID, "sam.h"))
    b.norm("layer_norm1", "x", "a", "layer", "sam.h", "vision")
    b.linear("attn.qkv", "a", "qkv", ("sam.qkv", "sam.h"), "vision", c.flag("qkv_bias", default=True))
    tables = []
    if c.flag("use_rel_pos", default=True):
        tables = [b.tensor(f"attn.rel_pos_{way}", (2 * side - 1, "sam.hd"), "vision") for way in ("h", "w")]
    b.op("attention", ("qkv",), "att", (*GRID, "sam.h"), ((4, (*GRID, span, "sam.h")),), tables)
    b.linear("attn.proj", "att", "o", ("sam.h", "sam.h"), "vision", bias=True)
    b.add("x", "o", "r")
    b.norm("layer_norm2", "r", "m", "layer", "sam.h", "vision")
    b.linear("mlp.lin1", "m", "up", ("sam.ffn", "sam.h"), "vision", bias=True)
    b.op("activation", ("up",), "act", (*GRID, "sam.ffn"))
    b.linear("mlp.lin2", "act", "y", ("sam.h", "sam.ffn"), "vision", bias=True)
    b.add("r", "y", "out")
    return b.block(layers, "vision")


def neck(b: Draft, prefix: str, source: str, out: str) -> None:
    """Two convolutions without biases, of one pixel and of three by three, each with a norm over channels."""
    wide: Axes = ("sam.out", "sam.out", 3, 3)
    convolve(b, f"{prefix}conv1", source, "nc1", ("sam.out", "sam.h", 1, 1), "vision", GRID)
    b.norm(f"{prefix}layer_norm1", "nc1", "nn1", "layer", "sam.out", "vision", (*GRID, "sam.out"))
    convolve(b, f"{prefix}conv2", "nn1", "nc2", wide, "vision", GRID)
    b.norm(f"{prefix}layer_norm2", "nc2", out, "layer", "sam.out", "vision", (*GRID, "sam.out"))

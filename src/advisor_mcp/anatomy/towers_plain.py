"""Vision towers of plain transformer layers: LayerNorm, biased projections and a two-matrix MLP, with their projectors.

Axes carry the prefix `vision.`; images have any size, so `vision.patches` and `vision.merged_patches` have no size here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from advisor_mcp.anatomy.config import MOST_LAYERS, Config
from advisor_mcp.anatomy.inventory import Axes, Axis, Block, Terms
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.errors import UsageError

PATCHES: Axes = ("images", "vision.patches")
MERGED: Axes = ("images", "vision.merged_patches")
WIDTH: Axis = "vision.h"


@dataclass(frozen=True, slots=True)
class Names:
    """What a release calls the parts of a layer; `qkv` is one joined matrix (the axis vision.qkv) or three.

    `joined_tensor` names q, k and v as one parameter without a module (in_proj_weight); `scales` the vectors that scale
    what attention and MLP return.
    """

    layer: str
    norms: tuple[str, str]
    qkv: tuple[str, ...]
    out: str
    mlp: tuple[str, str]
    joined_tensor: bool = False
    scales: tuple[str, ...] = ()


def layers(names: Names, depth: int) -> Block:
    """The tower's layers."""
    b = Draft("vision-layer", names.layer, PATCHES)
    b.value("x", (*PATCHES, WIDTH))
    b.norm(names.norms[0], "x", "a", "layer", WIDTH, "vision")
    _attention(b, names)
    b.add("x", _scaled(b, names, 0, "o"), "r")
    b.norm(names.norms[1], "r", "m", "layer", WIDTH, "vision")
    b.linear(names.mlp[0], "m", "up", ("vision.ffn", WIDTH), "vision", bias=True)
    b.op("activation", ("up",), "act", (*PATCHES, "vision.ffn"))
    b.linear(names.mlp[1], "act", "y", (WIDTH, "vision.ffn"), "vision", bias=True)
    b.add("r", _scaled(b, names, 1, "y"), "out")
    return b.block(tuple(range(depth)), "vision")


def _attention(b: Draft, names: Names) -> None:
    if names.joined_tensor:
        weight = b.tensor(f"{names.qkv[0]}_weight", ("vision.qkv", WIDTH), "vision", matrix=True)
        bias = b.tensor(f"{names.qkv[0]}_bias", ("vision.qkv",), "vision")
        product: Terms = ((2, (*PATCHES, WIDTH, "vision.qkv")),)
        b.op("linear", ("a",), "qkv", (*PATCHES, "vision.qkv"), product, [weight, bias])
        reads = ["qkv"]
    else:
        width: Axis = "vision.qkv" if len(names.qkv) == 1 else WIDTH
        reads = [f"p{index}" for index in range(len(names.qkv))]
        for name, out in zip(names.qkv, reads, strict=True):
            b.linear(name, "a", out, (width, WIDTH), "vision", bias=True)
    pairs: Terms = ((4, (*PATCHES, "vision.patches", WIDTH)),)
    b.op("attention", reads, "att", (*PATCHES, WIDTH), pairs)
    b.linear(names.out, "att", "o", (WIDTH, WIDTH), "vision", bias=True)


def _scaled(b: Draft, names: Names, which: int, value: str) -> str:
    if not names.scales:
        return value
    weight = b.tensor(names.scales[which], (WIDTH,), "vision")
    b.op("scale", (value,), f"{value}s", (*PATCHES, WIDTH), weights=[weight])
    return f"{value}s"


def patches(b: Draft, name: str, pixels: Sequence[int], bias: bool, flat: bool = False) -> None:
    """The product that makes the value `x` of a patch of these pixels: a convolution, or a matrix where `flat`."""
    size = 1
    for side in pixels:
        size *= side
    shape: Axes = (WIDTH, size) if flat else (WIDTH, *pixels)
    weights = [b.tensor(f"{name}.weight", shape, "vision", matrix=True)]
    if bias:
        weights.append(b.tensor(f"{name}.bias", (WIDTH,), "vision"))
    b.value("pixels", (*PATCHES, size))
    b.op("linear", ("pixels",), "x", (*PATCHES, WIDTH), ((2, (*PATCHES, size, WIDTH)),), weights)


def positions(b: Draft, name: str, table: Axes) -> None:
    """Learned positions, added to the value `x`."""
    weight = b.tensor(name, (*table, WIDTH), "vision")
    b.op("lookup", ("x",), "xp", (*PATCHES, WIDTH), weights=[weight])


def convolution(b: Draft, name: str, source: str, out: str, channels: tuple[Axis, Axis], side: int) -> None:
    """A square biased convolution that halves both sides; `channels` are those made and those read."""
    made, read = channels
    weight = b.tensor(f"{name}.weight", (made, read, side, side), "vision", matrix=True)
    bias = b.tensor(f"{name}.bias", (made,), "vision")
    product: Terms = ((2, (*MERGED, made, read, side, side)),)
    b.op("conv", (source,), out, (*MERGED, made), product, [weight, bias])


def axes(c: Config, width: int, heads: int, ffn: int) -> dict[str, int]:
    """The axes of a tower; raises `UsageError` when the heads do not divide the width."""
    return {
        "vision.h": width,
        "vision.qkv": 3 * width,
        "vision.heads": heads,
        "vision.hd": c.divides(width, heads, "the vision heads do not divide its width"),
        "vision.ffn": ffn,
    }


def depth_of(c: Config, *names: str) -> int:
    """The number of the tower's layers, bounded."""
    found = c.number(*names)
    if found > MOST_LAYERS:
        raise UsageError(
            f"{c.prefix}{names[0]} in the configuration is {found}; at most {MOST_LAYERS} layers are described"
        )
    return found


def square(c: Config, name: str, default: int) -> int:
    """A whole number, or a list of two equal ones (the sides of a patch)."""
    value = c.data.get(name)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        return Config({name: value[0]}, c.prefix, c.notes).number(name)
    return c.number(name, default=default)

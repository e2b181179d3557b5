"""BLIP-2's querying transformer: learned queries that attend to each other and to what a tower returns. Axes: `qformer.`"""

from __future__ import annotations

from typing import Any

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Axes, Axis, Block
from advisor_mcp.anatomy.multimodal import filled
from advisor_mcp.anatomy.parts import Draft

QUERIES: Axes = ("images", "qformer.queries")
MEMORY: Axes = ("images", "qformer.memory")
DEFAULTS: dict[str, Any] = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "cross_attention_frequency": 2, "encoder_hidden_size": 1408,
}  # fmt: skip
H, FFN, READ = "qformer.h", "qformer.ffn", "qformer.read"


def qformer(c: Config | None, sizes: dict[str, int], prefix: str, tower: str, where: str) -> list[Block]:
    """A configuration of transformers' Blip2QFormerConfig (`where` it stands): the first norm, and layers of two kinds.

    Every `cross_attention_frequency`-th layer also attends to the tower. Adds its axes.
    """
    c = filled(c or Config({}, f"{where}."), "Blip2QFormerConfig", DEFAULTS)
    h = c.number("hidden_size")
    c.divides(h, c.number("num_attention_heads"), "the querying transformer's heads do not divide its hidden_size")
    sizes |= {H: h, FFN: c.number("intermediate_size"), READ: c.number("encoder_hidden_size")}
    every, texts = c.number("cross_attention_frequency"), c.flag("use_qformer_text_input")
    first = Draft(f"{tower}-qformer-norm", prefix, QUERIES)
    first.norm("layernorm", "queries", "x", "layer", H, tower)
    depth = range(c.layers())
    kinds = {True: tuple(i for i in depth if i % every == 0), False: tuple(i for i in depth if i % every)}
    blocks = [_layer(prefix, tower, crosses, layers, texts) for crosses, layers in kinds.items() if layers]
    return [first.block((0,), tower), *blocks]


def _layer(prefix: str, tower: str, crosses: bool, layers: tuple[int, ...], texts: bool) -> Block:
    b = Draft(f"{tower}-qformer{'-cross' if crosses else ''}", f"{prefix}encoder.layer.{{layer}}.", QUERIES)
    b.value("x", (*QUERIES, H))
    last = _attention(b, tower, "attention.", "x", "a", QUERIES, H)
    if crosses:
        last = _attention(b, tower, "crossattention.", last, "c", MEMORY, READ)
    _feed(b, tower, "_query", last)
    if texts:  # what reads the instruction has matrices of its own
        _feed(b, tower, "", last)
    return b.block(layers, tower)


def _attention(b: Draft, tower: str, prefix: str, source: str, tag: str, rows: Axes, width: Axis) -> str:
    b.linear(f"{prefix}attention.query", source, f"{tag}q", (H, H), tower, bias=True)
    read = source if width == H else b.value("memory", (*MEMORY, READ))
    for name in ("key", "value"):
        b.linear(f"{prefix}attention.{name}", read, f"{tag}{name}", (H, width), tower, bias=True, tokens=rows)
    flops = ((4, (*QUERIES, rows[-1], H)),)
    b.op("attention", (f"{tag}q", f"{tag}key", f"{tag}value"), f"{tag}att", (*QUERIES, H), flops)
    b.linear(f"{prefix}output.dense", f"{tag}att", f"{tag}o", (H, H), tower, bias=True)
    b.add(source, f"{tag}o", f"{tag}r")
    b.norm(f"{prefix}output.LayerNorm", f"{tag}r", f"{tag}n", "layer", H, tower)
    return f"{tag}n"


def _feed(b: Draft, tower: str, which: str, source: str) -> None:
    b.linear(f"intermediate{which}.dense", source, f"up{which}", (FFN, H), tower, bias=True)
    b.op("activation", (f"up{which}",), f"act{which}", (*QUERIES, FFN))
    b.linear(f"output{which}.dense", f"act{which}", f"y{which}", (H, FFN), tower, bias=True)
    b.add(source, f"y{which}", f"s{which}")
    b.norm(f"output{which}.LayerNorm", f"s{which}", f"out{which}", "layer", H, tower)

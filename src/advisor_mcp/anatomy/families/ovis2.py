"""Ovis 2: a Qwen2 decoder behind AIMv2, whose patches become mixtures of the rows of a table of visual words."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, filled, joined
from advisor_mcp.anatomy.nested import decoder, vision_part
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.towers import PATCHES, Layer, convolve, vit_axes
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("ovis2",)
ROOT = "model.vision_tower."
VISION = {
    "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 24, "num_attention_heads": 8, "image_size": 224,
    "patch_size": 14, "vocab_size": 16384, "hidden_stride": 1, "num_visual_indicator_tokens": 5,
}  # fmt: skip
WORDS: Axes = ("images", "vision.words")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Ovis2Config; the head is tied unless the top level denies it."""
    tied = c.flag("tie_word_embeddings", default=True)
    inner = decoder(c, "qwen2", tied)
    _same(c, "hidden_size", 1536, inner.sizes["h"])
    if not tied:
        _same(c, "vocab_size", 151643, inner.sizes["vocab"])
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers = _tower(filled(vision, "Ovis2VisionConfig", VISION), sizes, inner.sizes["h"]) if vision else []
    return joined(c, "ovis2", inner, towers, sizes, LANGUAGE_MODEL, missing)


def _same(c: Config, name: str, default: int, decoder: int) -> None:
    found = c.number(name, default=default, of="Ovis2Config")
    if found != decoder:
        raise UsageError(f"the configuration contradicts itself: {name} is {found}, and {decoder} in text_config")


def _tower(c: Config, sizes: dict[str, int], width: int) -> list[Block]:
    root = f"{ROOT}transformer."
    patch, qkv, mlp = vit_axes(c, sizes), c.flag("qkv_bias"), c.flag("mlp_bias")
    first, last = Draft("vision-embedding", f"{root}embeddings.", PATCHES), Draft("vision-norm", root, PATCHES)
    convolve(first, "patch_embedding", "pixels", "p", patch, "vision", PATCHES, bias=True)
    first.tensor("position_embedding.weight", ("vision.patches", "vision.h"), "vision")
    first.norm("rms_norm", "p", "x", "rms", "vision.h", "vision")
    last.norm("rms_norm", "x", "n", "rms", "vision.h", "vision")
    layer = Layer(
        ("rms_norm1", "", "rms_norm2", ""), attention="attention.", norm="rms", bias=(qkv, qkv, qkv, qkv),
        feed=("ffn.gate_proj", "ffn.up_proj", "ffn.down_proj"), feed_bias=(mlp, mlp, mlp),
    )  # fmt: skip
    layers = layer.block("vision-layer", f"{root}encoder.layers.{{layer}}.", c.layers())
    return [first.block((0,), "vision"), layers, last.block((0,), "vision"), _table(c, sizes, width)]


def _table(c: Config, sizes: dict[str, int], width: int) -> Block:
    """A share of every visual word for each patch (marks for the beginning and end of an image have none), and their table."""
    vocab, marks = c.number("vocab_size"), c.number("num_visual_indicator_tokens", least=0)
    if marks >= vocab:
        raise UsageError(f"{c.prefix}num_visual_indicator_tokens is {marks}, which leaves none of {vocab} visual words")
    sizes |= {"vision.vocab": vocab, "vision.choices": vocab - marks}
    sizes["vision.joined"] = sizes["vision.h"] * c.number("hidden_stride") ** 2
    b = Draft("vision-words", "", WORDS)
    b.linear(f"{ROOT}head_linear", "n", "w", ("vision.choices", "vision.joined"), "vision")
    b.norm(f"{ROOT}head_norm", "w", "wn", "layer", "vision.choices", "vision")
    table = b.tensor("model.visual_embeddings_table.weight", ("vision.vocab", width), "vision", matrix=True)
    b.op("linear", ("wn",), "soft", (*WORDS, width), ((2, (*WORDS, "vision.vocab", width)),), [table])
    return b.block((0,), "vision")

"""HunyuanOCR: a Hunyuan decoder behind a tower whose patches are joined by a convolution and marked by rows and images."""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.hy_v3 import describe as hunyuan
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, decoder_config, filled, joined, with_fields
from advisor_mcp.anatomy.nested import vision_part
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.projectors import tied_either
from advisor_mcp.anatomy.towers import PATCHES, SIGLIP, convolve

MODEL_TYPES = ("hunyuan_vl",)
TEXT = {"intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
VISION = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16, "patch_size": 16,
    "spatial_merge_size": 2, "max_image_size": 2048,
}  # fmt: skip
ROOT = "model.vision_tower."
LAYER = replace(SIGLIP, projections=("q_proj", "k_proj", "v_proj", "o_proj"))
JOINED: Axes = ("images", "vision.joined_patches")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' HunYuanVLConfig, whose decoder may stand at the top level."""
    text = decoder_config(c, "HunYuanVLTextConfig", TEXT)
    head = text.optional("head_dim", "attention_head_dim")
    vocab = text.number("vocab_size", "org_vocab_size", default=290943, of="HunYuanVLTextConfig")
    fields = {"model_type": "hunyuan_v1_dense", "use_qk_norm": True, "head_dim": head, "vocab_size": vocab}
    tied = tied_either(c, text, default=True)
    inner = hunyuan(with_fields(text, **fields, tie_word_embeddings=tied))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers = _tower(filled(vision, "HunYuanVLVisionConfig", VISION), sizes, inner.sizes["h"]) if vision else []
    return joined(c, "hunyuan_vl", inner, towers, sizes, LANGUAGE_MODEL, missing)


def _tower(c: Config, sizes: dict[str, int], width: int) -> list[Block]:
    _sizes(c, sizes)
    side = c.number("patch_size")
    first = Draft("vision-embedding", f"{ROOT}embeddings.", PATCHES)
    pixels: Axes = ("vision.h", c.number("num_channels", default=3), side, side)
    convolve(first, "patch_embedding", "pixels", "p", pixels, "vision", PATCHES, bias=True)
    table = first.tensor("position_embedding.weight", ("vision.positions", "vision.h"), "vision")
    first.op("lookup", ("p",), "x", (*PATCHES, "vision.h"), weights=[table])
    layers = LAYER.block("vision-layer", f"{ROOT}layers.{{layer}}.", c.layers())
    return [first.block((0,), "vision"), layers, _merger(c.number("spatial_merge_size"), width)]


def _sizes(c: Config, sizes: dict[str, int]) -> None:
    h, heads = c.number("hidden_size"), c.number("attention_heads", "num_attention_heads")
    hd = c.optional("head_dim") or c.divides(h, heads, "the vision heads do not divide its hidden_size")
    sizes |= {"vision.h": h, "vision.hd": hd, "vision.q": heads * hd, "vision.kv": heads * hd}
    sizes |= {"vision.ffn": c.number("intermediate_size"), "vision.double": 2 * h, "vision.joined": 4 * h}
    sizes["vision.patches"] = (c.number("max_image_size") // c.number("patch_size")) ** 2
    sizes["vision.positions"] = sizes["vision.patches"] + 1


def _merger(side: int, width: int) -> Block:
    """Two convolutions that join patches, a matrix, and learned marks: end of a row, begin and end of an image, a separator."""
    b = Draft("vision-merger", f"{ROOT}patch_merger.", JOINED)
    b.norm("before_rms", "x", "n", "rms", "vision.h", "vision", (*PATCHES, "vision.h"))
    convolve(b, "proj_conv", "n", "c1", ("vision.double", "vision.h", side, side), "vision", JOINED, bias=True)
    convolve(b, "proj_out", "c1", "c2", ("vision.joined", "vision.double", 1, 1), "vision", JOINED, bias=True)
    b.tensor("image_newline", ("vision.joined",), "vision")
    b.linear("mlp", "c2", "soft", (width, "vision.joined"), "vision", bias=True)
    for mark in ("image_begin", "image_end", "image_sep"):
        b.tensor(mark, (width,), "vision")
    b.norm("after_rms", "soft", "out", "rms", width, "vision")
    return b.block((0,), "vision")

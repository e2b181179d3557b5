"""Kimi K2.5 and K2.6: Kimi K2 behind a vision tower (MoonViT) with a projector of two matrices."""

from __future__ import annotations

from advisor_mcp.anatomy import towers_plain as towers
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.deepseek_v3 import describe as deepseek
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import NO_VISION, joined, with_fields
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.sparse import Filled
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("kimi_k25",)
OF = "Kimi_K25VisionConfig"
DEFAULTS = {
    "patch_size": 14, "pos_emb_height": 64, "pos_emb_width": 64, "num_attention_heads": 16, "num_hidden_layers": 27,
    "hidden_size": 1152, "intermediate_size": 4304,
}  # fmt: skip
TEXT_TYPES = ("deepseek_v3", "kimi_k2")
NAMES = towers.Names(
    "vision_tower.encoder.blocks.{layer}.", ("norm0", "norm1"), ("wqkv",), "wo", ("mlp.fc0", "mlp.fc1")
)
PREFIXES = {"model.": "language_model.model.", "lm_head": "language_model.lm_head"}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Kimi_K25Config (5.23.0), or with the published files' own names in vision_config."""
    text = c.part("text_config")
    if text is None:
        raise CannotAnswer("the configuration has no text_config, which this model type needs", needs=["text_config"])
    if (kind := text.text("model_type") or "deepseek_v3") not in TEXT_TYPES:
        raise CannotAnswer(
            f"text_config.model_type is {shown(kind)}; Kimi K2.5 is described with {' or '.join(TEXT_TYPES)}"
        )
    tied = c.flag("tie_word_embeddings", default=text.flag("tie_word_embeddings"))
    decoder = deepseek(with_fields(text, model_type="kimi_k2", tie_word_embeddings=tied))
    vision = c.part("vision_config")
    if vision is None:
        return joined(c, "kimi_k25", decoder, [], {}, PREFIXES, [NO_VISION])
    blocks, sizes = vision_tower(c, vision, decoder.sizes["h"])
    return joined(c, "kimi_k25", decoder, blocks, sizes, PREFIXES)


def vision_tower(c: Config, vision: Config, text_width: int) -> tuple[list[Block], dict[str, int]]:
    """MoonViT and the projector; `text_width` is the decoder's."""
    v = Filled(vision, OF, DEFAULTS)
    width = v.number("hidden_size", "vt_hidden_size")
    sizes = towers.axes(
        v, width, v.number("num_attention_heads", "vt_num_attention_heads"), v.number("intermediate_size", "vt_intermediate_size")
    )  # fmt: skip
    sizes |= {"vision.merged": width * _merged(v), "vision.normed": _normed(c, v, width)}
    side = v.number("patch_size")
    first = Draft("vision-embedding", "vision_tower.patch_embed.", towers.PATCHES)
    towers.patches(first, "proj", (3, side, side), bias=True)
    table = (v.number("pos_emb_height", "init_pos_emb_height"), v.number("pos_emb_width", "init_pos_emb_width"))
    towers.positions(first, "pos_emb.weight", table)
    depth = towers.depth_of(v, "num_hidden_layers", "vt_num_hidden_layers")
    return [first.block((0,), "vision"), towers.layers(NAMES, depth), _projector(text_width)], sizes


def _projector(text_width: int) -> Block:
    last = Draft("vision-projector", "", towers.MERGED)
    last.value("out", (*towers.PATCHES, "vision.h"))
    last.norm("vision_tower.encoder.final_layernorm", "out", "n", "layer", "vision.h", "vision")
    last.norm("mm_projector.pre_norm", "n", "p", "layer", "vision.normed", "vision", (*towers.MERGED, "vision.merged"))
    last.linear("mm_projector.proj.0", "p", "p0", ("vision.merged", "vision.merged"), "vision", bias=True)
    last.linear("mm_projector.proj.2", "p0", "p2", (text_width, "vision.merged"), "vision", bias=True)
    return last.block((0,), "vision")


def _merged(v: Config) -> int:
    found = v.entries("merge_kernel_size", length=None) or [2, 2]
    if len(found) != 2 or any(not isinstance(side, int) or isinstance(side, bool) or side < 1 for side in found):
        raise UsageError(f"{v.prefix}merge_kernel_size in the configuration must list two whole numbers")
    return int(found[0]) * int(found[1])


def _normed(c: Config, v: Config, width: int) -> int:
    """The width of the norm before the projector: that of a patch before merging."""
    return c.number("projection_hidden_size", default=v.number("mm_hidden_size", default=width))

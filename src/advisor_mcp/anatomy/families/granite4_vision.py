"""Granite 4 Vision: a Granite decoder whose layers are fed by several querying transformers over windows of an image."""

from __future__ import annotations

import re

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, filled, joined, with_fields
from advisor_mcp.anatomy.nested import decoder, text_part, vision_part
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.projectors import rooted
from advisor_mcp.anatomy.towers import encoder
from advisor_mcp.anatomy.towers_qformer import QUERIES, H, qformer
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("granite4_vision",)
HEAD = 64  # the class gives every head this size, whatever the file says
SPATIAL = 4  # one for each corner of a 2 x 2 grid
MOST = 1000


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Granite4VisionConfig; only the top level says whether the head is tied."""
    text = text_part(c)
    c = with_fields(c, text_config={**text.data, "model_type": "granite"})
    inner = decoder(c, "granite", c.flag("tie_word_embeddings"))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        towers = rooted(encoder(vision, "clip_vision_model", sizes), "vision_tower.", "model.vision_tower.")
        towers += _projectors(c, sizes, inner.sizes["h"])
    return joined(c, "granite4_vision", inner, towers, sizes, LANGUAGE_MODEL, missing)


def _projectors(c: Config, sizes: dict[str, int], width: int) -> list[Block]:
    layers = c.entries("deepstack_layer_map")
    if layers is None:
        raise CannotAnswer(
            "the configuration has no deepstack_layer_map, which says how many projectors there are",
            ["deepstack_layer_map"],
        )
    if len(layers) > MOST:
        raise UsageError(
            f"deepstack_layer_map in the configuration has {len(layers)} entries; at most {MOST} are described"
        )
    sizes["vision.query_side"], sizes["vision.window_side"] = _sides(c)
    roots = [f"model.layerwise_projectors.{index}." for index in range(len(layers))]
    roots += [f"model.spatial_projectors.{index}." for index in range(SPATIAL)]
    newline = Draft("vision-newline", "model.")
    newline.tensor("image_newline", (width,), "vision")
    return [newline.block((0,), "vision"), *(block for root in roots for block in _projector(c, sizes, width, root))]


def _sides(c: Config) -> tuple[int, int]:
    """`downsample_rate` is "QUERIES/WINDOW": the sides of the squares of queries and of patches."""
    rate = c.text("downsample_rate")
    if rate is None:
        raise CannotAnswer("the configuration has no downsample_rate, which this model type needs", ["downsample_rate"])
    found = re.fullmatch(r"([1-9]\d{0,4})/([1-9]\d{0,4})", rate)
    if found is None:
        raise UsageError(f"downsample_rate in the configuration must be like '4/8', not {shown(rate)}")
    return int(found[1]), int(found[2])


def _projector(c: Config, sizes: dict[str, int], width: int, root: str) -> list[Block]:
    h = sizes["vision.h"]
    given = c.part("qformer_config")
    preset = {"num_hidden_layers": 1, "cross_attention_frequency": 1} if given is None else {}
    fixed = {"hidden_size": h, "encoder_hidden_size": h, "num_attention_heads": h // HEAD}
    part = given or filled(Config({}, "qformer_config.", c.notes), "Granite4VisionConfig", preset)
    blocks = qformer(with_fields(part, **fixed), sizes, f"{root}qformer.", "vision", "qformer_config")
    b = Draft("vision-projector", root, QUERIES)
    b.norm("norm", "n", "m", "layer", H, "vision")
    b.tensor("query", (1, "vision.query_side", "vision.query_side", H), "vision")
    b.tensor("image_positions", (1, "vision.window_side", "vision.window_side", H), "vision")
    b.linear("out_linear", "x", "soft", (width, H), "vision", bias=True)
    return [*blocks, b.block((0,), "vision")]

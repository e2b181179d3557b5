"""MiniCPM-V 4.6 and 4.7: a Qwen3.5 decoder behind SigLIP, which merges patches by windows halfway and again at the end."""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, filled, joined
from advisor_mcp.anatomy.nested import decoder, vision_part
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.projectors import JOINED, Projector
from advisor_mcp.anatomy.towers import siglip_encoder
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("minicpmv4_6", "minicpmv4_7")
CLASSES = {"minicpmv4_6": "MiniCPMV4_6VisionConfig", "minicpmv4_7": "MiniCPMV4_7VisionConfig"}
VISION = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224,
    "patch_size": 16, "window_kernel_size": [2, 2],
}  # fmt: skip
MERGED = 4  # patches that one step of the last merger joins, whatever merge_kernel_size says
MOST_STEPS = 100


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MiniCPMV4_6Config or MiniCPMV4_7Config; only the top level says whether the head is tied."""
    family = c.text("model_type") or "minicpmv4_6"
    inner = decoder(c, "qwen3_5_text", c.flag("tie_word_embeddings"))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        vision = filled(vision, CLASSES[family], VISION)
        towers = siglip_encoder(vision, sizes, "model.vision_tower.")
        towers += [_window(vision, sizes), *_merger(c, sizes, inner.sizes["h"])]
    return joined(c, family, inner, towers, sizes, LANGUAGE_MODEL, missing)


def _window(c: Config, sizes: dict[str, int]) -> Block:
    """Attention within windows, then the patches of a window side by side through a plain MLP into one."""
    window = c.numbers("window_kernel_size", least=1) or []
    if len(window) != 2:
        raise UsageError(f"{c.prefix}window_kernel_size in the configuration must be two whole numbers")
    many = window[0] * window[1]
    sizes |= {"vision.window": many, "vision.window_h": many * sizes["vision.h"]}
    sizes["vision.window_ffn"] = many * sizes["vision.ffn"]
    b = Draft("vision-window-merger", "model.vision_tower.vit_merger.", ("images", "vision.patches"))
    b.value("x", (*b.tokens, "vision.h"))
    b.norm("layer_norm1", "x", "a", "layer", "vision.h", "vision")
    for name in "qkv":
        b.linear(f"self_attn.{name}_proj", "a", name, ("vision.h", "vision.h"), "vision", bias=True)
    b.op("attention", "qkv", "att", (*b.tokens, "vision.h"), ((4, (*b.tokens, "vision.window", "vision.h")),))
    b.linear("self_attn.out_proj", "att", "o", ("vision.h", "vision.h"), "vision", bias=True)
    b.norm("pre_norm", "o", "n", "layer", "vision.window_h", "vision", (*JOINED, "vision.window_h"))
    b.linear("linear_1", "n", "up", ("vision.window_ffn", "vision.window_h"), "vision", bias=True, tokens=JOINED)
    b.op("activation", ("up",), "act", (*JOINED, "vision.window_ffn"))
    b.linear("linear_2", "act", "y", ("vision.h", "vision.window_ffn"), "vision", bias=True, tokens=JOINED)
    return b.block((0,), "vision")


def _merger(c: Config, sizes: dict[str, int], width: int) -> list[Block]:
    steps = c.number("merger_times", default=1)
    if steps > MOST_STEPS:
        raise UsageError(f"merger_times in the configuration is {steps}; at most {MOST_STEPS} are described")
    h = sizes["vision.h"]
    step = Projector(norm="pre_norm")
    return [
        replace(step, prefix=f"model.merger.mlp.{index}.").block(
            sizes, MERGED * h, MERGED * h, width if index == steps - 1 else h
        )
        for index in range(steps)
    ]

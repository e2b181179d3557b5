"""Idefics 2: a Mistral decoder behind SigLIP, and a resampler whose learned queries read the patches of an image."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block
from advisor_mcp.anatomy.multimodal import filled, joined
from advisor_mcp.anatomy.nested import decoder, vision_part
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.towers import PATCHES, siglip_encoder

MODEL_TYPES = ("idefics2",)
VISION = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224,
    "patch_size": 32,
}  # fmt: skip
PERCEIVER = {
    "resampler_n_latents": 64, "resampler_depth": 3, "resampler_n_heads": 16, "resampler_head_dim": 96,
    "num_key_value_heads": 4,
}  # fmt: skip
ROOT = "model.connector."
LATENTS: Axes = ("images", "vision.latents")
READ: Axes = ("images", "vision.read")  # patches, then the latents themselves


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Idefics2Config; only the top level says whether the head is tied."""
    inner = decoder(c, "mistral", c.flag("tie_word_embeddings"))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        towers = siglip_encoder(filled(vision, "Idefics2VisionConfig", VISION), sizes, "model.vision_model.")
        towers += _connector(c, sizes, inner.sizes["h"], inner.sizes["ffn"])
    return joined(c, "idefics2", inner, towers, sizes, {"model.": "model.text_model."}, missing)


def _connector(c: Config, sizes: dict[str, int], width: int, ffn: int) -> list[Block]:
    perceiver = filled(
        c.part("perceiver_config") or Config({}, "perceiver_config.", c.notes), "Idefics2PerceiverConfig", PERCEIVER
    )
    heads, kv_heads = perceiver.number("resampler_n_heads"), perceiver.number("num_key_value_heads")
    perceiver.divides(heads, kv_heads, "the resampler's KV heads do not divide its heads")
    hd, latents = perceiver.number("resampler_head_dim"), perceiver.number("resampler_n_latents")
    sizes |= {"vision.between": ffn, "vision.soft": width, "vision.resampled_ffn": 4 * width, "vision.latents": latents}
    sizes |= {"vision.rq": heads * hd, "vision.rkv": kv_heads * hd, "vision.read": sizes["vision.patches"] + latents}
    first = Draft("vision-projector", ROOT, PATCHES)
    _gated(first, "modality_projection.", "n", "soft", ("vision.h", "vision.between", "vision.soft"))
    first.tensor("perceiver_resampler.latents", ("vision.latents", "vision.soft"), "vision")
    last = Draft("vision-resampler-norm", f"{ROOT}perceiver_resampler.", LATENTS)
    last.norm("norm", "x", "out", "rms", "vision.soft", "vision")
    layers = tuple(range(perceiver.layers("resampler_depth")))
    return [first.block((0,), "vision"), _resampler(layers), last.block((0,), "vision")]


def _resampler(layers: tuple[int, ...]) -> Block:
    b = Draft("vision-resampler", f"{ROOT}perceiver_resampler.layers.{{layer}}.", LATENTS)
    b.value("latents", (*LATENTS, "vision.soft"))
    b.norm("input_latents_norm", "latents", "a", "rms", "vision.soft", "vision")
    b.norm("input_context_norm", "soft", "ctx", "rms", "vision.soft", "vision", (*READ, "vision.soft"))
    b.linear("self_attn.q_proj", "a", "q", ("vision.rq", "vision.soft"), "vision")
    for name in ("k", "v"):
        b.linear(f"self_attn.{name}_proj", "ctx", name, ("vision.rkv", "vision.soft"), "vision", tokens=READ)
    pairs: Axes = (*LATENTS, "vision.read", "vision.rq")
    b.op("attention", ("q", "k", "v"), "att", (*LATENTS, "vision.rq"), ((4, pairs),))
    b.linear("self_attn.o_proj", "att", "o", ("vision.soft", "vision.rq"), "vision")
    b.add("latents", "o", "r")
    b.norm("post_attention_layernorm", "r", "m", "rms", "vision.soft", "vision")
    _gated(b, "mlp.", "m", "y", ("vision.soft", "vision.resampled_ffn", "vision.soft"))
    b.add("r", "y", "out")
    return b.block(layers, "vision")


def _gated(b: Draft, prefix: str, source: str, out: str, widths: tuple[str, str, str]) -> None:
    into, between, last = widths
    for name in ("gate", "up"):
        b.linear(f"{prefix}{name}_proj", source, name, (between, into), "vision")
    b.op("gate", ("gate", "up"), "act", (*b.tokens, between))
    b.linear(f"{prefix}down_proj", "act", out, (last, between), "vision")

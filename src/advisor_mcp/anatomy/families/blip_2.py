"""BLIP-2: an OPT or T5 model behind a vision transformer and a querying transformer."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block
from advisor_mcp.anatomy.multimodal import filled, joined
from advisor_mcp.anatomy.nested import decoder, text_part, vision_part
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.towers import PATCHES, TOKENS, convolve, vit_axes
from advisor_mcp.anatomy.towers_qformer import QUERIES, READ, H, qformer
from advisor_mcp.errors import CannotAnswer, shown

MODEL_TYPES = ("blip-2",)
TEXT = {
    "opt": ("OPTConfig", {
        "vocab_size": 50272, "hidden_size": 768, "num_hidden_layers": 12, "ffn_dim": 3072, "num_attention_heads": 12,
        "word_embed_proj_dim": 768,
    }),
    "t5": ("T5Config", {
        "vocab_size": 32128, "d_model": 512, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
    }),
}  # fmt: skip
VISION = {
    "hidden_size": 1408, "intermediate_size": 6144, "num_hidden_layers": 39, "num_attention_heads": 16, "image_size": 224,
    "patch_size": 14,
}  # fmt: skip


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Blip2Config (ForConditionalGeneration), whose decoder says itself whether it is tied."""
    text = text_part(c)
    kind = text.text("model_type") or "opt"
    if kind not in TEXT:
        raise CannotAnswer(
            f"text_config names the model type {shown(kind)}; described here are {', '.join(TEXT)}", [kind]
        )
    inner = decoder(c, kind, text.flag("tie_word_embeddings", default=True), TEXT[kind])
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        towers = _tower(filled(vision, "Blip2VisionConfig", VISION), sizes)
        towers += _queries(c, sizes, inner.sizes["h"])
    return joined(c, "blip-2", inner, towers, sizes, {"": "language_model."}, missing)


def _tower(c: Config, sizes: dict[str, int]) -> list[Block]:
    """EVA's: a class token, joined q-k-v whose bias is one vector, biases everywhere else."""
    _, _, *patch = vit_axes(c, sizes)
    bias = c.flag("qkv_bias", default=True)
    first, last = (Draft(f"vision-{name}", "vision_model.", TOKENS) for name in ("embedding", "norm"))
    convolve(first, "embeddings.patch_embedding", "pixels", "p", ("vision.h", 3, *patch), "vision", PATCHES, bias=True)
    tables = [
        first.tensor("embeddings.class_embedding", (1, 1, "vision.h"), "vision"),
        first.tensor("embeddings.position_embedding", (1, "vision.tokens", "vision.h"), "vision"),
    ]
    first.op("lookup", ("p",), "x", (*TOKENS, "vision.h"), weights=tables)
    last.norm("post_layernorm", "x", "n", "layer", "vision.h", "vision")
    return [first.block((0,), "vision"), _layer(tuple(range(c.layers())), bias), last.block((0,), "vision")]


def _layer(layers: tuple[int, ...], bias: bool) -> Block:
    b = Draft("vision-layer", "vision_model.encoder.layers.{layer}.", TOKENS)
    wide: Axes = (*TOKENS, "vision.h")
    b.value("x", wide)
    b.norm("layer_norm1", "x", "a", "layer", "vision.h", "vision")
    b.linear("self_attn.qkv", "a", "qkv", ("vision.qkv", "vision.h"), "vision", bias)
    b.op("attention", ("qkv",), "att", wide, ((4, (*TOKENS, "vision.tokens", "vision.h")),))
    b.linear("self_attn.projection", "att", "o", ("vision.h", "vision.h"), "vision", bias=True)
    b.add("x", "o", "r")
    b.norm("layer_norm2", "r", "m", "layer", "vision.h", "vision")
    b.linear("mlp.fc1", "m", "up", ("vision.ffn", "vision.h"), "vision", bias=True)
    b.op("activation", ("up",), "act", (*TOKENS, "vision.ffn"))
    b.linear("mlp.fc2", "act", "y", ("vision.h", "vision.ffn"), "vision", bias=True)
    b.add("r", "y", "out")
    return b.block(layers, "vision")


def _queries(c: Config, sizes: dict[str, int], width: int) -> list[Block]:
    queries = c.number("num_query_tokens", default=32, of="Blip2Config")
    blocks = qformer(c.part("qformer_config"), sizes, "qformer.", "vision", "qformer_config")
    sizes |= {READ: sizes["vision.h"], "qformer.queries": queries, "qformer.memory": sizes["vision.tokens"]}
    b = Draft("vision-projector", "", QUERIES)
    b.tensor("query_tokens", (1, "qformer.queries", H), "vision")
    b.linear("language_projection", "x", "soft", (width, H), "vision", bias=True)
    return [*blocks, b.block((0,), "vision")]

"""Llama 3.2 Vision: Llama's decoder with layers between that attend to images, behind a tower of two transformers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block, Cache, Span
from advisor_mcp.anatomy.multimodal import filled, joined, with_fields
from advisor_mcp.anatomy.nested import INSIDE, text_part, vision_part
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Gated,
    Grouped,
    assemble,
    by_kind,
    embedding_block,
    grouped_axes,
    head_block,
    pre_norm_layer,
)
from advisor_mcp.anatomy.towers import Layer, convolve, vit_axes

MODEL_TYPES = ("mllama", "mllama_text_model")
OF = "MllamaTextConfig"
DEFAULTS = {
    "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 40,
    "num_attention_heads": 32, "num_key_value_heads": 8,
}  # fmt: skip
VISION = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_global_layers": 8, "image_size": 448,
    "patch_size": 14, "max_num_tiles": 4, "vision_output_dim": 7680,
}  # fmt: skip
LAYER = Layer(
    ("input_layernorm", "", "post_attention_layernorm", ""), ("q_proj", "k_proj", "v_proj", "o_proj"),
    bias=(False, False, False, False),
)  # fmt: skip
GATED = replace(LAYER, scales=("gate_attn", "gate_ffn"))
IMAGE_TOKENS = 8  # rows that the embedding has beside the vocabulary; the head has none
TILES: Axes = ("images", "vision.tiles", "vision.tokens")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MllamaConfig (text and vision) or MllamaTextConfig.

    Sizes and FLOPs are those of text alone, which skips the layers that attend to images: the axes `images` and
    `with_images` are 0, and a workload with images sets them.
    """
    if c.text("model_type") == "mllama_text_model":
        c.number("hidden_size")
        return _decoder(filled(c, OF, DEFAULTS), "mllama_text_model", 0)
    text = filled(text_part(c), OF, DEFAULTS)
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers = _tower(vision, text.number("hidden_size"), sizes) if vision else []
    inner = _decoder(text, "mllama", sizes.get("vision.tiles", 0) * sizes.get("vision.tokens", 0))
    return joined(c, "mllama", inner, towers, sizes, INSIDE, missing)


@dataclass(frozen=True, slots=True)
class Cross:
    """Attention of text to the tokens of the images, whose keys and values are computed once and kept."""

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the projections, norms of queries and keys per head, the attention, its cache and its gate."""
        seen: Axes = ("b", "images", "image_tokens")
        b.linear("cross_attn.q_proj", source, "q", ("q", "h"), "attention")
        b.value("image", (*seen, "h"))
        for name in ("k", "v"):
            b.linear(f"cross_attn.{name}_proj", "image", name, ("kv", "h"), "attention", tokens=seen)
        b.norm("cross_attn.q_norm", "q", "qn", axis="hd", role="qk_norm", axes=(*b.tokens, "q"))
        b.norm("cross_attn.k_norm", "k", "kn", axis="hd", role="qk_norm", axes=(*seen, "kv"))
        flops = ((4, (*b.tokens, "images", "image_tokens", "qh", "hd")),)
        b.op("attention", ("qn", "kn", "v"), "att", (*b.tokens, "qh", "hd"), flops)
        b.caches.append(Cache("cross", fixed=((2, ("images", "image_tokens", "kvh", "hd")),)))
        b.linear("cross_attn.o_proj", "att", "oa", ("h", "q"), "attention")
        b.op("scale", ("oa",), "o", b.values["oa"].axes, weights=[b.tensor("cross_attn_attn_gate", (1,), "attention")])


@dataclass(frozen=True, slots=True)
class Scaled:
    """The MLP of a layer that attends to images, with a gate of its own."""

    def write(self, b: Draft, source: str) -> None:
        """Add the MLP and its gate."""
        Gated().write(b, source, "ya")
        b.op("scale", ("ya",), "y", b.values["ya"].axes, weights=[b.tensor("cross_attn_mlp_gate", (1,), "attention")])


def _decoder(c: Config, family: str, image_tokens: int) -> Architecture:
    layers = c.layers()
    listed = c.numbers("cross_attention_layers")
    crossing = set([3, 8, 13, 18, 23, 28, 33, 38] if listed is None else listed)
    kinds = ["cross" if index in crossing else "full" for index in range(layers)]
    plain = with_fields(c, head_dim=None)  # the class reads no head_dim
    sizes = grouped_axes(plain) | {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    sizes |= {"vocab_rows": sizes["vocab"] + IMAGE_TOKENS, "images": 0, "with_images": 0, "image_tokens": image_tokens}

    def layer(b: Draft, kind: str) -> None:
        if kind == "cross":
            b.tokens = (*b.tokens, "with_images")
            pre_norm_layer(b, Cross(), Scaled(), Span())
        else:
            pre_norm_layer(b, Grouped(), Gated(), Span())

    blocks = [_embedding(), *by_kind(kinds, layer), head_block("model.embed_tokens.weight", tied=False)]
    if "cross" in kinds and image_tokens:
        c.notes.append(_per_image(kinds.count("cross"), sizes))
    return assemble(c, family, blocks, sizes, GROUPED_DERIVED, tied=False)


def _per_image(layers: int, sizes: dict[str, int]) -> str:
    elements = 2 * layers * sizes["kvh"] * sizes["hd"] * sizes["image_tokens"]
    return (
        f"text alone: {layers} layers that attend to images are skipped; an image adds {elements:,} elements "
        f"({sizes['image_tokens']:,} tokens) to the state of its sequence"
    )


def _embedding() -> Block:
    block = embedding_block()
    rows = tuple(replace(tensor, axes=("vocab_rows", "h")) for tensor in block.tensors)
    return replace(block, tensors=rows)


def _tower(c: Config, text_width: int, sizes: dict[str, int]) -> list[Block]:
    """Tiles with positions of their own through plain layers, then gated ones; what some layers return goes side by side."""
    heads = {} if c.given("attention_heads", "num_attention_heads") else {"attention_heads": 16}
    c = filled(c, "MllamaVisionConfig", VISION | heads)
    patch = vit_axes(c, sizes, ("attention_heads", "num_attention_heads"))
    ratios = c.entries("supported_aspect_ratios")
    sizes |= {
        "vision.tiles": c.number("max_num_tiles"),
        "vision.ratios": (8 if ratios is None else len(ratios)) + 1,
        "vision.out": c.number("vision_output_dim"),
    }
    sizes["vision.tile_h"] = sizes["vision.tiles"] * sizes["vision.h"]
    sizes["vision.table"] = sizes["vision.tile_h"] * sizes["vision.tokens"]
    last = Draft("vision-projector", "", TILES)
    last.norm("vision_model.layernorm_post", "x", "n", "layer", "vision.h", "vision")
    last.linear("multi_modal_projector", "n", "image", (text_width, "vision.out"), "vision", bias=True)
    root = "vision_model."
    return [
        _patches(patch),
        LAYER.block("vision-layer", f"{root}transformer.layers.{{layer}}.", c.layers(), TILES),
        GATED.block(
            "vision-layer-global", f"{root}global_transformer.layers.{{layer}}.", c.layers("num_global_layers"), TILES
        ),
        last.block((0,), "vision"),
    ]


def _patches(patch: Axes) -> Block:
    b = Draft("vision-embedding", "vision_model.", TILES)
    convolve(b, "patch_embedding", "pixels", "patches", patch, "vision", ("images", "vision.tiles", "vision.patches"))
    b.tensor("class_embedding", ("vision.h",), "vision")
    for name in ("gated_positional_embedding", "pre_tile_positional_embedding", "post_tile_positional_embedding"):
        b.tensor(f"{name}.gate", (1,), "vision")
    b.tensor("gated_positional_embedding.embedding", ("vision.tokens", "vision.h"), "vision")
    b.tensor("gated_positional_embedding.tile_embedding.weight", ("vision.ratios", "vision.table"), "vision")
    for name in ("pre_tile_positional_embedding", "post_tile_positional_embedding"):
        b.tensor(f"{name}.embedding.weight", ("vision.ratios", "vision.tile_h"), "vision")
    b.norm("layernorm_pre", "patches", "x", "layer", "vision.h", "vision")
    return b.block((0,), "vision")

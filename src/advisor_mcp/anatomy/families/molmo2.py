"""Molmo 2: a Qwen3-like decoder with rows of its own for marks, behind a vision transformer and a pooling attention."""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, NO_VISION, filled, joined, with_fields
from advisor_mcp.anatomy.nested import text_part
from advisor_mcp.anatomy.parts import RESIDUAL, TOKENS, Draft, Gated
from advisor_mcp.anatomy.projectors import JOINED
from advisor_mcp.anatomy.towers import PATCHES, SIGLIP, pair
from advisor_mcp.anatomy.variants import PRE_NORM, Heads, Order, axes_of, dense, with_ffn
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("molmo2",)
TEXT = {
    "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
    "num_hidden_layers": 36, "intermediate_size": 12288, "additional_vocab_size": 128,
}  # fmt: skip
VISION = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 25, "num_attention_heads": 16,
    "num_key_value_heads": 16, "head_dim": 72,
}  # fmt: skip
ADAPTER = {
    "hidden_size": 1152, "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 72, "intermediate_size": 18944,
    "text_hidden_size": 3584,
}  # fmt: skip
NORMS = {"qwen3": "head", "olmo": "width"}
AFTER = Order("", "input_layernorm", "", "post_attention_layernorm")
FEATURES = [24, 18]


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Molmo2Config, whose head is never tied."""
    inner = _decoder(filled(text_part(c), "Molmo2TextConfig", TEXT))
    vision = c.part("vision_config") or c.part("vit_config")
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        legacy = not c.given("vision_config")
        adapter = filled(
            c.part("adapter_config") or Config({}, "adapter_config.", c.notes), "Molmo2AdapterConfig", ADAPTER
        )
        vision = filled(vision, "Molmo2VisionConfig", VISION)
        read = _read_layers(adapter, vision.layers())
        depth = max(layer % vision.layers() for layer in read) + 1 if legacy else vision.layers()
        towers = [*_tower(vision, sizes, depth), _adapter(adapter, sizes, len(read))]
    return joined(c, "molmo2", inner, towers, sizes, LANGUAGE_MODEL, () if towers else (NO_VISION,))


def _decoder(c: Config) -> Architecture:
    norm = c.text("qk_norm_type") or "qwen3"
    if norm not in NORMS:
        raise CannotAnswer(f"{c.prefix}qk_norm_type is {shown(norm)}; described here are {', '.join(NORMS)}", [norm])
    bias = c.flag("qkv_bias", "attention_bias")
    attention = Heads(q_bias=bias, kv_bias=bias, qk_norm="head" if norm == "qwen3" else "width")
    sizes = with_ffn(c, axes_of(c))
    sizes["vocab.rows"] = sizes["vocab"] + c.number("additional_vocab_size", least=0)
    order = AFTER if c.flag("norm_after") else PRE_NORM
    found = dense(with_fields(c, model_type="molmo2"), "molmo2", attention, Gated(), sizes, order=order)
    return replace(found, blocks=(_embedding(), *found.blocks[1:]))


def _embedding() -> Block:
    """The table has rows that the head does not predict: marks of images."""
    b = Draft("embedding")
    b.value("ids", TOKENS, "int")
    table = b.tensor("model.embed_tokens.weight", ("vocab.rows", "h"), "token_embedding")
    b.op("lookup", ("ids",), "x", RESIDUAL, weights=[table])
    return b.block((0,))


def _read_layers(c: Config, layers: int) -> list[int]:
    """The layers of the tower that the adapter reads side by side."""
    found = c.entries("vit_layers", "vision_feature_layer")
    if found is None:
        c.notes.append(f"{c.prefix}vision_feature_layer is absent: {FEATURES}, the default of Molmo2AdapterConfig")
        found = FEATURES
    whole = all(isinstance(layer, int) and not isinstance(layer, bool) for layer in found)
    if not found or len(found) > 1000 or not whole or not all(-layers <= layer < layers for layer in found):
        raise UsageError(
            f"{c.prefix}vision_feature_layer must list some of the tower's {layers} layers, not {shown(found)}"
        )
    return found


def _tower(c: Config, sizes: dict[str, int], depth: int) -> list[Block]:
    heads, kv_heads, hd = c.number("num_attention_heads"), c.number("num_key_value_heads"), c.number("head_dim")
    c.divides(heads, kv_heads, "the vision KV heads do not divide its heads")
    sizes |= {"vision.h": c.number("hidden_size"), "vision.ffn": c.number("intermediate_size"), "vision.hd": hd}
    sizes |= {"vision.q": heads * hd, "vision.kv": kv_heads * hd, "vision.patches": _positions(c)}
    side = c.number("image_patch_size", "patch_size", default=14, of="Molmo2VisionConfig")
    sizes["vision.pixels"] = side * side * c.number("num_channels", default=3)
    bias = c.flag("attention_bias", default=True)
    first = Draft("vision-embedding", "model.vision_tower.", PATCHES)
    first.linear("patch_embedding", "pixels", "p", ("vision.h", "vision.pixels"), "vision", bias=True)
    table = first.tensor("positional_embedding", ("vision.patches", "vision.h"), "vision")
    first.op("lookup", ("p",), "x", (*PATCHES, "vision.h"), weights=[table])
    layer = replace(SIGLIP, projections=("q_proj", "k_proj", "v_proj", "o_proj"), bias=(bias,) * 4)
    return [first.block((0,), "vision"), layer.block("vision-layer", "model.vision_tower.layers.{layer}.", depth)]


def _positions(c: Config) -> int:
    if c.given("image_num_pos", "num_position_embeddings"):
        return c.number("image_num_pos", "num_position_embeddings")
    name = "image_default_input_size" if c.given("image_default_input_size") else "image_size"
    height, width = pair(c, name) if c.given(name) else (378, 378)
    side = c.number("image_patch_size", "patch_size", default=14)
    if height < side or width < side:
        raise UsageError(f"{c.prefix}{name} in the configuration is smaller than one patch")
    return (height // side) * (width // side)


def _adapter(c: Config, sizes: dict[str, int], features: int) -> Block:
    """Attention of the mean of a window to its patches, and a gated MLP into the decoder's width."""
    heads, kv_heads, hd = c.number("num_attention_heads"), c.number("num_key_value_heads"), c.number("head_dim")
    c.divides(heads, kv_heads, "the adapter's KV heads do not divide its heads")
    sizes |= {"vision.pool_h": c.number("hidden_size"), "vision.features": c.number("hidden_size") * features}
    sizes |= {
        "vision.pool_q": heads * hd,
        "vision.pool_kv": kv_heads * hd,
        "vision.pool_ffn": c.number("intermediate_size"),
    }
    sizes["vision.soft"] = c.number("text_hidden_size")
    bias, mlp_bias = c.flag("attention_bias", default=True), c.flag("mlp_bias")
    b = Draft("vision-adapter", "model.multi_modal_projector.", JOINED)
    wide: tuple[str, str] = ("vision.pool_q", "vision.features")
    b.linear("image_pooling_2d.q_proj", "means", "q", wide, "vision", bias)
    for name in "kv":
        axes: tuple[str, str] = ("vision.pool_kv", "vision.features")
        b.linear(f"image_pooling_2d.{name}_proj", "x", name, axes, "vision", bias, tokens=PATCHES)
    b.op("attention", "qkv", "att", (*JOINED, "vision.pool_q"), ((4, (*PATCHES, "vision.pool_q")),))
    b.linear("image_pooling_2d.o_proj", "att", "o", ("vision.pool_h", "vision.pool_q"), "vision", bias)
    for name in ("gate", "up"):
        b.linear(f"image_projector.{name}_proj", "o", name, ("vision.pool_ffn", "vision.pool_h"), "vision", mlp_bias)
    b.op("gate", ("gate", "up"), "act", (*JOINED, "vision.pool_ffn"))
    b.linear("image_projector.down_proj", "act", "soft", ("vision.soft", "vision.pool_ffn"), "vision")
    return b.block((0,), "vision")

"""DeepSeek-OCR 2: a DeepSeekMoE-like decoder behind SAM and a Qwen2 stack whose learned queries reorder what SAM saw."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, filled, joined, with_fields
from advisor_mcp.anatomy.nested import text_part, vision_part
from advisor_mcp.anatomy.parts import GROUPED_DERIVED, Draft, Gated, Grouped, grouped_axes
from advisor_mcp.anatomy.sparse import Layer, listed_or_first, mixture, mixture_axes, stack
from advisor_mcp.anatomy.towers import Layer as TowerLayer
from advisor_mcp.anatomy.towers import convolve
from advisor_mcp.anatomy.towers_sam import GRID, sam_tower
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("deepseek_ocr2",)
TEXT = {
    "vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "n_routed_experts": 64, "n_shared_experts": 2, "moe_intermediate_size": 1407,
}  # fmt: skip
ENCODER = {
    "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32,
}  # fmt: skip
ROOT = "model.vision_tower."
READ: Axes = ("images", "vision.tokens")  # SAM's vectors, then as many queries
QUERIES = {"query_768_resolution": 144, "query_1024_resolution": 256}
QWEN2 = TowerLayer(
    ("input_layernorm", "", "post_attention_layernorm", ""), ("q_proj", "k_proj", "v_proj", "o_proj"), norm="rms",
    feed=("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"), bias=(True, True, True, False), feed_bias=(False, False, False),
)  # fmt: skip


def describe(c: Config) -> Architecture:
    """A configuration of transformers' DeepseekOcr2Config; only the top level says whether the head is tied."""
    inner = _decoder(filled(text_part(c), "DeepseekOcr2TextConfig", TEXT), c.flag("tie_word_embeddings"))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers = _towers(vision, sizes, inner.sizes["h"]) if vision else []
    return joined(c, "deepseek_ocr2", inner, towers, sizes, LANGUAGE_MODEL, missing)


def _decoder(c: Config, tied: bool) -> Architecture:
    bias, mlp_bias = c.flag("attention_bias"), c.flag("mlp_bias")
    sizes = grouped_axes(with_fields(c, head_dim=None)) | {"vocab": c.number("vocab_size")}
    kinds = listed_or_first(c, c.number("first_k_dense_replace", least=0) if not c.given("mlp_layer_types") else 0)
    attention = Grouped(bias, bias, bias)
    table = {"dense": Layer(attention, Gated(bias=mlp_bias))}
    if "dense" in kinds:
        sizes["ffn"] = c.number("intermediate_size")
    if "moe" in kinds:
        sizes |= mixture_axes(c)
        table["moe"] = Layer(attention, mixture(sizes, bias=mlp_bias))
    return stack(c, "deepseek_ocr2", kinds, table, sizes, GROUPED_DERIVED, tied=tied)


def _towers(c: Config, sizes: dict[str, int], width: int) -> list[Block]:
    sam = c.part("sam_config") or Config({}, f"{c.prefix}sam_config.", c.notes)
    encoder = c.part("encoder_config") or Config({}, f"{c.prefix}encoder_config.", c.notes)
    root = f"{ROOT}sam_encoder."
    towers = [*sam_tower(sam, sizes, root, "DeepseekOcr2SamVisionConfig"), _downsample(sam, sizes, root)]
    towers += _encoder(filled(encoder, "DeepseekOcr2VisionEncoderConfig", ENCODER), sizes)
    b = Draft("vision-projector", "model.", ("images", "vision.queries"))
    b.tensor("view_separator", (width,), "vision")
    b.linear("multi_modal_projector", "n", "soft", (width, "vision.h"), "vision", bias=True)
    return [*towers, b.block((0,), "vision")]


def _downsample(c: Config, sizes: dict[str, int], root: str) -> Block:
    """Two convolutions that halve both sides."""
    channels = c.numbers("downsample_channels", least=1)
    if channels is None:
        channels = [512, 896]
        c.notes.append(
            f"{c.prefix}downsample_channels is absent: {channels}, the default of DeepseekOcr2SamVisionConfig"
        )
    if len(channels) < 2:
        raise UsageError(f"{c.prefix}downsample_channels in the configuration must hold two whole numbers")
    sizes |= {"sam.down": channels[0], "sam.joined": channels[1]}
    b = Draft("sam-projector", f"{root}proj.", GRID)
    convolve(b, "conv1", "hp", "c1", ("sam.down", "sam.out", 3, 3), "vision", ("images", "sam.halved"))
    convolve(b, "conv2", "c1", "c2", ("sam.joined", "sam.down", 3, 3), "vision", ("images", "sam.quartered"))
    return b.block((0,), "vision")


def _encoder(c: Config, sizes: dict[str, int]) -> list[Block]:
    h, heads = c.number("hidden_size"), c.number("num_attention_heads")
    hd = c.optional("head_dim") or c.divides(h, heads, "the vision heads do not divide its hidden_size")
    kv_heads = c.number("num_key_value_heads")
    c.divides(heads, kv_heads, "the vision KV heads do not divide its heads")
    sizes |= {"vision.h": h, "vision.q": heads * hd, "vision.kv": kv_heads * hd, "vision.hd": hd}
    sizes["vision.ffn"] = c.number("intermediate_size")
    first, last = Draft("vision-queries", ROOT), Draft("vision-norm", f"{ROOT}vision_encoder.", READ)
    for name, rows in QUERIES.items():
        first.tensor(f"{name}.weight", (rows, "vision.h"), "vision")
    last.norm("norm", "x", "n", "rms", "vision.h", "vision")
    layers = QWEN2.block("vision-layer", f"{ROOT}vision_encoder.layers.{{layer}}.", c.layers(), READ)
    return [first.block((0,), "vision"), layers, last.block((0,), "vision")]

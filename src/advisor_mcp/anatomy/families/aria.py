"""Aria: a decoder with experts in every layer, behind SigLIP and learned queries that read an image's patches once."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block
from advisor_mcp.anatomy.multimodal import filled, joined, with_fields
from advisor_mcp.anatomy.nested import INSIDE, text_part, vision_part
from advisor_mcp.anatomy.parts import GROUPED_DERIVED, Draft, Experts, Grouped, grouped_axes
from advisor_mcp.anatomy.sparse import Layer, mixture, mixture_axes, stack
from advisor_mcp.anatomy.towers import PATCHES, siglip_encoder
from advisor_mcp.errors import UsageError, shown

MODEL_TYPES = ("aria",)
TEXT = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "moe_num_experts": 8, "moe_topk": 2, "moe_num_shared_experts": 2,
}  # fmt: skip
VISION = {
    "hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 16, "image_size": 224,
    "patch_size": 32,
}  # fmt: skip
EXPERTS = Experts("mlp.router", prefix="mlp.experts.", layout="stacked")
QUERIES: Axes = ("images", "vision.queries")
ROOT = "multi_modal_projector."


def describe(c: Config) -> Architecture:
    """A configuration of transformers' AriaConfig; only the top level says whether the head is tied."""
    inner = _decoder(filled(text_part(c), "AriaTextConfig", TEXT), c.flag("tie_word_embeddings"))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        towers = siglip_encoder(filled(vision, "Idefics3VisionConfig", VISION), sizes, "vision_tower.")
        towers.append(_projector(c, sizes, inner.sizes["h"]))
    return joined(c, "aria", inner, towers, sizes, INSIDE, missing)


def _decoder(c: Config, tied: bool) -> Architecture:
    bias, mlp_bias = c.flag("attention_bias"), c.flag("mlp_bias")
    sizes = grouped_axes(c) | {"vocab": c.number("vocab_size")}
    sizes |= mixture_axes(c, "moe_num_experts", "moe_num_shared_experts", "intermediate_size", ("moe_topk",))
    feed = mixture(sizes, EXPERTS, bias=mlp_bias)
    derived = GROUPED_DERIVED | {"gate_up": ((2, ("moe_ffn",)),)}
    table = {"moe": Layer(Grouped(bias, bias, bias), feed)}
    return stack(with_fields(c, model_type="aria"), "aria", ["moe"] * c.layers(), table, sizes, derived, tied=tied)


def _queries(c: Config) -> int:
    """As many learned queries as the largest image needs; files name the number for each count of patches."""
    found = c.part("projector_patch_to_query_dict")
    if found is None:
        c.notes.append("projector_patch_to_query_dict is absent: {1225: 128, 4900: 256}, the default of AriaConfig")
        return 256
    if not found.data:
        raise UsageError(f"projector_patch_to_query_dict in the configuration is {shown(found.data)}; give it an entry")
    return max(found.number(name) for name in found.data)


def _projector(c: Config, sizes: dict[str, int], width: int) -> Block:
    """Attention of the queries to the patches, with projections before those of the attention itself, and a plain MLP."""
    sizes |= {"vision.queries": _queries(c)}
    h = "vision.h"
    b = Draft("vision-projector", ROOT, QUERIES)
    b.tensor("query", ("vision.queries", h), "vision")
    b.value("query", (*QUERIES, h))
    b.norm("cross_attn.layer_norm", "query", "qn", "layer", h, "vision")
    b.norm("cross_attn.layer_norm_kv", "n", "kvn", "layer", h, "vision", (*PATCHES, h))
    for name, source, rows in (("q", "qn", QUERIES), ("k", "kvn", PATCHES), ("v", "kvn", PATCHES)):
        b.linear(f"cross_attn.{name}_proj", source, name, (h, h), "vision", tokens=rows)
    _attention(b)
    b.linear("cross_attn.linear", "o", "ol", (h, h), "vision", bias=True)
    b.norm("layer_norm", "ol", "m", "layer", h, "vision")
    b.linear("feed_forward.linear_in", "m", "up", (width, h), "vision")
    b.op("activation", ("up",), "act", (*QUERIES, width))
    b.linear("feed_forward.linear_out", "act", "soft", (width, width), "vision")
    return b.block((0,), "vision")


def _attention(b: Draft) -> None:
    h, name = "vision.h", "cross_attn.multihead_attn."
    weights = [
        b.tensor(f"{name}in_proj_weight", ("vision.qkv", h), "vision", matrix=True),
        b.tensor(f"{name}in_proj_bias", ("vision.qkv",), "vision"),
    ]
    products = ((2, (*QUERIES, h, h)), (4, (*PATCHES, h, h)))
    b.op("linear", ("q", "k", "v"), "qkv", (*QUERIES, "vision.qkv"), products, weights)
    b.op("attention", ("qkv",), "att", (*QUERIES, h), ((4, (*QUERIES, "vision.patches", h)),))
    b.linear(f"{name}out_proj", "att", "o", (h, h), "vision", bias=True)

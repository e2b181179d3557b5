"""MiniMax M3: attention that reads the blocks of keys an indexer picks, experts with a shared one, and a vision tower."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy import towers_plain as towers
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block, Cache, Span, Terms
from advisor_mcp.anatomy.multimodal import NO_VISION, joined
from advisor_mcp.anatomy.parts import Draft, Experts, Gated, grouped_axes
from advisor_mcp.anatomy.sparse import (
    MLP_KINDS,
    Beside,
    Filled,
    Layer,
    Varied,
    flags,
    mixture,
    mixture_axes,
    stack,
    suffixed,
    varied_derived,
)
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = ("minimax_m3_vl", "minimax_m3_vl_text")
MOE = "block_sparse_moe."
EXPERTS = Experts(f"{MOE}gate", prefix=f"{MOE}experts.{{expert}}.", names=("w1", "w3", "w2"))
DEFAULTS = {
    "num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 128, "num_local_experts": 128, "num_experts_per_tok": 4,
    "intermediate_size": 3072, "dense_intermediate_size": 12288, "shared_intermediate_size": 3072,
}  # fmt: skip
# the class's name, the published files' name in sparse_attention_config, and the class's default
INDEX = (
    ("index_n_heads", "sparse_num_index_heads", 4),
    ("index_head_dim", "sparse_index_dim", 128),
    ("index_block_size", "sparse_block_size", 128),
    ("index_topk_blocks", "sparse_topk_blocks", 16),
)
VISION = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16, "num_channels": 3,
    "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2,
}  # fmt: skip
NAMES = towers.Names(
    "vision_tower.vision_model.encoder.layers.{layer}.", ("layer_norm1", "layer_norm2"),
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "self_attn.out_proj", ("mlp.fc1", "mlp.fc2"),
)  # fmt: skip
PREFIXES = {"model.": "language_model.model.", "lm_head": "language_model.lm_head"}
PICKS = "picked"
SPAN_KINDS = {"full_attention": "", "minimax_m3_sparse": PICKS}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MiniMaxM3VLConfig or MiniMaxM3VLTextConfig (5.23.0)."""
    family = c.text("model_type") or "minimax_m3_vl"
    text = c.part("text_config")
    if family == "minimax_m3_vl_text" or text is None:
        return _decoder(c, c, family)
    decoder = _decoder(c, text, family)
    vision = c.part("vision_config")
    if vision is None:
        return joined(c, family, decoder, [], {}, PREFIXES, [NO_VISION])
    sizes: dict[str, int] = {}
    blocks = _tower(c, vision, decoder.sizes["h"], sizes)
    return joined(c, family, decoder, blocks, sizes, PREFIXES)


def _decoder(c: Config, text: Config, family: str) -> Architecture:
    f = Filled(text, "MiniMaxM3VLTextConfig", DEFAULTS)
    feeds, spans = _feeds(f), _spans(f)
    kinds = suffixed(feeds, spans)
    sizes = grouped_axes(f, head_dim=DEFAULTS["head_dim"]) | {"vocab": f.number("vocab_size")}
    derived: dict[str, Terms] = varied_derived()
    reach = Span()
    if PICKS in spans:
        index = _index(f)
        reach = Span(window=index.pop("positions"))
        sizes |= index
        derived |= {"index_q": ((1, ("index_heads", "index_hd")),)}
    if "dense" in feeds:
        sizes["ffn"] = f.number("dense_intermediate_size")
    if "moe" in feeds:
        sizes |= mixture_axes(f, "num_local_experts", None, "intermediate_size")
        sizes |= {"shared_ffn": shared} if (shared := f.number("shared_intermediate_size", least=0)) else {}
    table = {
        kind: Layer(
            Picked() if kind.endswith(PICKS) else Varied(qk_norm="head"),
            Gated() if kind.startswith("dense") else mixture(sizes, EXPERTS, f"{MOE}shared_experts."),
            reach if kind.endswith(PICKS) else Span(),
        )
        for kind in dict.fromkeys(kinds)
    }
    tied = c.flag("tie_word_embeddings", default=text.flag("tie_word_embeddings"))
    beside = Beside(f"{MOE}e_score_correction_bias")
    return stack(c, family, kinds, table, sizes, derived, beside=beside, tied=tied, spans=[Span()])


def _feeds(f: Filled) -> list[str]:
    layers = f.layers()
    routed = flags(f, "moe_layer_freq", layers)
    listed = f.layer_kinds("mlp_layer_types", layers, MLP_KINDS)
    if listed is None and routed is not None:
        return ["moe" if experts else "dense" for experts in routed]
    return listed or ["moe"] * layers


def _spans(f: Filled) -> list[str]:
    layers = f.layers()
    listed = f.layer_kinds("layer_types", layers, SPAN_KINDS)
    sparse = f.part("sparse_attention_config")
    picked = flags(sparse, "sparse_attention_freq", layers) if sparse else None
    if listed is None and picked is not None:
        return [PICKS if picks else "" for picks in picked]
    return listed or [""] * layers


def _index(f: Filled) -> dict[str, int]:
    """The indexer's axes; the published files' own names go before the class's."""
    sparse = f.part("sparse_attention_config") or Config({}, notes=f.notes)
    heads, size, block, blocks = (
        sparse.number(own, default=f.number(name, default=default)) for name, own, default in INDEX
    )
    if sparse.given("sparse_disable_index_value") and any(value == 0 for value in _values(sparse)):
        raise CannotAnswer("MiniMax M3 is described with index values disabled in every sparse layer")
    return {"index_heads": heads, "index_hd": size, "positions": block * blocks}


def _values(sparse: Config) -> list[object]:
    """Whether each layer's indexer is without values, where its attention is sparse."""
    off, on = sparse.entries("sparse_disable_index_value"), sparse.entries("sparse_attention_freq")
    return [value for value, picks in zip(off or [], on or [], strict=False) if picks]


@dataclass(frozen=True, slots=True)
class Picked:
    """Grouped-query attention over the blocks of positions that an indexer picks; its keys are cached too."""

    def write(self, b: Draft, source: str, span: Span, prefix: str = "self_attn.") -> None:
        """Add the indexer, the projections and norms, the attention over what was picked, and both caches."""
        role, attention = "sparse_indexer", Varied(qk_norm="head")
        b.linear(f"{prefix}index_q_proj", source, "iq", ("index_q", "h"), role)
        b.linear(f"{prefix}index_k_proj", source, "ik", ("index_hd", "h"), role)
        b.norm(f"{prefix}index_q_norm", "iq", "iqn", axis="index_hd", role=role, axes=(*b.tokens, "index_q"))
        b.norm(f"{prefix}index_k_norm", "ik", "ikn", axis="index_hd", role=role)
        scores: Terms = ((2, ("b", "pairs", "index_heads", "index_hd")),)
        b.op("index", ("iqn", "ikn"), "picked", (*b.tokens, "index_heads"), scores)
        b.caches.append(Cache("full", entry=((1, ("index_hd",)),)))
        reads = attention.project(b, source, prefix)
        attention.attend(b, source, span, (*reads, "picked"), prefix, kept=Span())


def _tower(c: Config, vision: Config, text_width: int, sizes: dict[str, int]) -> list[Block]:
    v = Filled(vision, "MiniMaxM3VLVisionConfig", VISION)
    sizes |= towers.axes(v, v.number("hidden_size"), v.number("num_attention_heads"), v.number("intermediate_size"))
    merge = v.number("spatial_merge_size") ** 2
    sizes["vision.projected"] = c.number("projector_hidden_size", default=6144, of="MiniMaxM3VLConfig")
    sizes["vision.merged"] = text_width * merge
    side = v.number("patch_size")
    first = Draft("vision-embedding", "vision_tower.vision_model.", towers.PATCHES)
    pixels = (v.number("num_channels"), v.number("temporal_patch_size"), side, side)
    towers.patches(first, "embeddings.patch_embedding", pixels, bias=False)
    first.norm("pre_layrnorm", "x", "n", "layer", "vision.h", "vision")
    last = Draft("vision-projector", "", towers.PATCHES)
    last.value("out", (*towers.PATCHES, "vision.h"))
    wide = "vision.projected"
    last.linear("multi_modal_projector.linear_1", "out", "p1", (wide, "vision.h"), "vision", bias=True)
    last.linear("multi_modal_projector.linear_2", "p1", "p2", (text_width, wide), "vision", bias=True)
    last.linear("patch_merge_mlp.linear_1", "p2", "m1", (wide, "vision.merged"), "vision", True, towers.MERGED)
    last.linear("patch_merge_mlp.linear_2", "m1", "m2", (text_width, wide), "vision", True, towers.MERGED)
    depth = towers.depth_of(v, "num_hidden_layers")
    return [first.block((0,), "vision"), towers.layers(NAMES, depth), last.block((0,), "vision")]

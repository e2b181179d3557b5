"""OPT and Galactica: learned positions with two rows to spare; the 350M one embeds narrower and normalises after its parts."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, heads_of, used
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axis, Block, Span
from advisor_mcp.anatomy.parts import RESIDUAL, TOKENS, Draft, Norm, assemble, by_kind

MODEL_TYPES = ("opt",)
ROOT = "model.decoder."
SPARE_ROWS = 2  # the class looks positions up two rows further on


def describe(c: Config) -> Architecture:
    """A configuration of transformers' OPTConfig."""
    sizes = heads_of(c) | {"ffn": c.number("ffn_dim"), "vocab": c.number("vocab_size")}
    sizes["positions"] = c.number("max_position_embeddings", default=2048, of="OPTConfig") + SPARE_ROWS
    sizes["embed"] = c.number("word_embed_proj_dim", default=sizes["h"])
    bias = c.flag("enable_bias", default=True)
    norm: Norm = "layer" if c.flag("layer_norm_elementwise_affine", default=True) else "none"
    before = c.flag("do_layer_norm_before", default=True)
    layer = Layer(
        Projected(names=("q_proj", "k_proj", "v_proj", "out_proj"), bias=bias, o_bias=bias),
        Matrices("", bias=bias),
        ("self_attn_layer_norm", "final_layer_norm"),
        "pre" if before else "post",
        norm,
    )
    last = norm if before and not c.flag("_remove_final_layer_norm") else None
    tied = c.flag("tie_word_embeddings", default=True)
    narrow = sizes["embed"] != sizes["h"]
    blocks = [
        _embedding(narrow),
        *by_kind(["full"] * c.layers(), lambda b, _: layer.write(b, Span()), f"{ROOT}layers.{{layer}}."),
        _head(narrow, last, tied),
    ]
    return assemble(c, "opt", blocks, sizes, used(sizes), tied)


def _embedding(narrow: bool) -> Block:
    b = Draft("embedding", ROOT)
    b.value("ids", TOKENS, "int")
    width: Axis = "embed" if narrow else "h"
    tokens = [b.tensor("embed_tokens.weight", ("vocab", width), "token_embedding")]
    b.op("lookup", ("ids",), "e", (*TOKENS, width), weights=tokens)
    positions = [b.tensor("embed_positions.weight", ("positions", "h"), "position_embedding")]
    b.op("lookup", ("ids",), "p", RESIDUAL, weights=positions)
    if narrow:
        b.linear("project_in", "e", "wide", ("h", "embed"), "other")
    b.op("add", ("wide" if narrow else "e", "p"), "x", RESIDUAL)
    return b.block((0,))


def _head(narrow: bool, norm: Norm | None, tied: bool) -> Block:
    b = Draft("head")
    b.value("x", RESIDUAL)
    last: str = "x"
    if norm is not None:
        b.norm(f"{ROOT}final_layer_norm", "x", "xn", norm)
        last = "xn"
    if narrow:
        b.linear(f"{ROOT}project_out", last, "e", ("embed", "h"), "other")
        last = "e"
    width: Axis = "embed" if narrow else "h"
    if tied:
        flops = ((2, (*TOKENS, width, "vocab")),)
        b.op("linear", (last,), "logits", (*TOKENS, "vocab"), flops, [f"{ROOT}embed_tokens.weight"])
    else:
        b.linear("lm_head", last, "logits", ("vocab", width), "lm_head")
    return b.block((0,))

"""MiniMax-Text-01 and M1: lightning (linear) attention in seven layers of eight, softmax attention in one, experts in all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.mixtral import EXPERTS
from advisor_mcp.anatomy.inventory import Architecture, Block, Span, Tensor, Terms
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Grouped,
    assemble,
    by_kind,
    embedding_block,
    expert_axes,
    grouped_axes,
    head_block,
)
from advisor_mcp.anatomy.recurrent import Write, mixer_layer, scan
from advisor_mcp.errors import CannotAnswer, shown

MODEL_TYPES = ("minimax", "minimax_text_01", "minimax_m1")
KINDS = {"full_attention": "full", "linear_attention": "lightning"}
CODES = {0: "lightning", 1: "full"}
DERIVED: dict[str, Terms] = GROUPED_DERIVED | {"qkv": ((3, ("qh", "hd")),)}
EMBEDDINGS = "model.embed_tokens.weight"


def lightning(b: Draft, source: str, prefix: str = "self_attn.") -> None:
    """Linear attention with a fixed decay per head: what is kept is one (head size x head size) matrix per head.

    Its matrices stand under the attention's names and count as attention (arXiv:2501.08313).
    """
    b.linear(f"{prefix}qkv_proj", source, "qkv", ("qkv", "h"), "attention")
    scan(b, ("qkv",), "mixed", "q", ("qh", "hd", "hd"))
    b.norm(f"{prefix}norm", "mixed", "mixed_n", axis="q")
    b.linear(f"{prefix}output_gate", source, "output_gate", ("q", "h"), "attention")
    b.op("gate", ("mixed_n", "output_gate"), "gated", (*b.tokens, "q"))
    b.linear(f"{prefix}out_proj", "gated", "o", ("h", "q"), "attention")


MIXERS: dict[str, Write] = {"lightning": lightning, "full": partial(Grouped().write, span=Span())}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MiniMaxConfig, or of the original repositories (minimax_text_01, minimax_m1)."""
    family = c.text("model_type") or "minimax"
    kinds = _kinds(c, family)
    for name in ("shared_intermediate_size", "sliding_window"):
        if c.data.get(name) not in (None, 0, [0]):
            raise CannotAnswer(f"{name} {shown(c.data[name])} is not described for MiniMax; published files have none")
    sizes = grouped_axes(c, "MiniMaxConfig", kv_heads=None if "num_key_value_heads" in c.data else 8)
    sizes |= expert_axes(c, "num_local_experts", width="intermediate_size") | {"vocab": c.number("vocab_size")}

    def layer(b: Draft, kind: str) -> None:
        mixer_layer(b, MIXERS[kind], "input_layernorm", partial(EXPERTS.write, out="y"), "post_attention_layernorm")

    tied = c.flag("tie_word_embeddings")
    blocks = [embedding_block(EMBEDDINGS), *by_kind(kinds, layer), head_block(EMBEDDINGS, tied)]
    beside = _decays(c, kinds) if family == "minimax" else ()
    sizes |= {"block": c.number("block_size", default=256, of="MiniMaxConfig")} if beside else {}
    return assemble(c, family, blocks, sizes, DERIVED, tied, beside=beside)


def _kinds(c: Config, family: str) -> list[str]:
    layers = c.layers()
    if (listed := c.layer_kinds("layer_types", layers, KINDS)) is not None:
        return listed
    codes = c.entries("attn_type_list", "decoder_attention_types", length=layers)
    if codes is not None:
        return [_decoded(code) for code in codes]
    if family != "minimax":
        raise CannotAnswer(
            "the configuration has no attn_type_list, which says which layers have lightning attention",
            needs=["attn_type_list"],
        )
    return ["lightning" if index % 2 else "full" for index in range(layers)]


def _decoded(code: object) -> str:
    if isinstance(code, bool) or not isinstance(code, int) or code not in CODES:
        raise CannotAnswer(f"attn_type_list has the code {shown(code)}; known are 0 (lightning) and 1 (full attention)")
    return CODES[code]


def _decays(c: Config, kinds: Sequence[str]) -> tuple[Block, ...]:
    """The decay factors that transformers' class saves as buffers of each lightning layer."""
    layers = tuple(index for index, kind in enumerate(kinds) if kind == "lightning")
    prefix = "model.layers.{layer}.self_attn."
    tensors = (
        Tensor(f"{prefix}slope_rate", ("qh", 1, 1), "attention"),
        Tensor(f"{prefix}query_decay", ("qh", "block", 1), "attention"),
        Tensor(f"{prefix}key_decay", ("qh", "block", 1), "attention"),
        Tensor(f"{prefix}diagonal_decay", (1, "qh", "block", "block"), "attention"),
    )
    return (Block("decay factors", layers, tensors),) if layers else ()

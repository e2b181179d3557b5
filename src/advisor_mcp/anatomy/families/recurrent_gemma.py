"""RecurrentGemma (Griffin): two gated linear recurrences, then one attention over a window, each before a gated MLP."""

from __future__ import annotations

from functools import partial
from itertools import cycle, islice

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Cache, Span, Terms
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
)
from advisor_mcp.anatomy.recurrent import ROLE, Write, convolve, mixer_layer
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("recurrent_gemma",)
OF = "RecurrentGemmaConfig"
KINDS = {"recurrent": "recurrent", "attention": "attention"}
DERIVED: dict[str, Terms] = GROUPED_DERIVED | {"inner": ((1, ("qh", "lru_hd")),)}
EMBEDDINGS = "model.embed_tokens.weight"


def recurrence(b: Draft, source: str, prefix: str = "temporal_block.") -> None:
    """The RG-LRU between a convolution and a gate (arXiv:2402.19427); its two gates are products within each head.

    Kept of a sequence: one number per channel in fp32, and one column less than the convolution is wide.
    """
    inner: Axes = (*b.tokens, "inner")
    b.linear(f"{prefix}linear_y", source, "branch", ("inner", "h"), ROLE, bias=True)
    b.linear(f"{prefix}linear_x", source, "lru_in", ("inner", "h"), ROLE, bias=True)
    kept: Terms = ((1, ("inner", "conv_kernel")), (-1, ("inner",)))
    convolve(b, f"{prefix}conv_1d", "lru_in", "xc", "inner", bias=True, kept=kept)
    for gate in ("input_gate", "recurrent_gate"):
        weights = [
            b.tensor(f"{prefix}rg_lru.{gate}_weight", ("qh", "lru_hd", "lru_hd"), ROLE, matrix=True),
            b.tensor(f"{prefix}rg_lru.{gate}_bias", ("qh", "lru_hd"), ROLE),
        ]
        b.op("linear", ("xc",), gate, inner, ((2, (*b.tokens, "qh", "lru_hd", "lru_hd")),), weights)
    decay = b.tensor(f"{prefix}rg_lru.recurrent_param", ("inner",), ROLE)
    # the state is the output: it is updated, and not read by a product
    b.op("scan", ("xc", "input_gate", "recurrent_gate"), "ys", inner, ((2, inner),), [decay])
    b.caches.append(Cache("recurrent", fixed=((1, ("inner",)),), dtype="fp32"))
    b.op("gate", ("ys", "branch"), "yz", inner)
    b.linear(f"{prefix}linear_out", "yz", "o", ("h", "inner"), ROLE, bias=True)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' RecurrentGemmaConfig; the MLP is half as wide as intermediate_size says."""
    kinds = _kinds(c)
    kv_bias = c.flag("attention_bias")
    span = Span(window=c.number("attention_window_size", "sliding_window", default=2048, of=OF))
    attention = Grouped(q_bias=kv_bias, kv_bias=kv_bias, o_bias=True)
    mixers: dict[str, Write] = {
        "recurrent": recurrence, "attention": partial(attention.write, span=span, prefix="temporal_block.")
    }  # fmt: skip
    feed = partial(Gated(bias=True).write, prefix="mlp_block.")

    def layer(b: Draft, kind: str) -> None:
        mixer_layer(b, mixers[kind], "temporal_pre_norm", feed, "channel_pre_norm")

    tied = c.flag("tie_word_embeddings", default=True)
    head = head_block(EMBEDDINGS, tied, "model.final_norm")
    blocks = [embedding_block(EMBEDDINGS), *by_kind(kinds, layer), head]
    return assemble(c, "recurrent_gemma", blocks, _axes(c), DERIVED, tied, [span])


def _axes(c: Config) -> dict[str, int]:
    sizes = grouped_axes(c, OF)
    width = c.number("lru_width", default=sizes["h"])
    full = c.number("intermediate_size", least=2)
    return sizes | {
        "lru_hd": c.divides(width, sizes["qh"], "the heads do not divide lru_width"),
        "conv_kernel": c.number("conv1d_width", default=4, of=OF),
        "ffn": full // 2,
        "vocab": c.number("vocab_size"),
    }


def _kinds(c: Config) -> list[str]:
    """The pattern, repeated; files of the original repositories call it _block_types."""
    pattern = c.entries("block_types", "_block_types")
    if pattern is None:
        pattern = ["recurrent", "recurrent", "attention"]
    if not pattern:
        raise UsageError("block_types in the configuration is empty; it names the layers of one round")
    for kind in pattern:
        if not isinstance(kind, str) or kind not in KINDS:
            raise CannotAnswer(
                f"block_types names the layer kind {shown(kind)}, which is not described for this model type"
            )
    return list(islice(cycle(pattern), c.layers()))

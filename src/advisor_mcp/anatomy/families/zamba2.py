"""Zamba2: Mamba 2 layers, and a few transformer blocks used in turn at the hybrid layers, each with an adapter of its own."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.zamba import hybrid_layer, shared_axes, shared_block, without
from advisor_mcp.anatomy.inventory import Architecture, Span, Terms
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    assemble,
    attend,
    by_kind,
    embedding_block,
    head_block,
    kv_cache,
)
from advisor_mcp.anatomy.recurrent import (
    HYBRID_KINDS,
    MAMBA2_DERIVED,
    Mamba2,
    counted,
    expanded,
    mamba2_axes,
    mixer_layer,
)
from advisor_mcp.errors import CannotAnswer, UsageError

MODEL_TYPES = ("zamba2",)
OF = "Zamba2Config"
DERIVED: dict[str, Terms] = GROUPED_DERIVED | MAMBA2_DERIVED | {"gate_up": ((2, ("ffn",)),)}
EMBEDDINGS = "model.embed_tokens.weight"
DEFAULT_HYBRIDS = (6, 12, 18, 24, 30, 36, 42, 47, 51)
DEFAULT_LAYERS = 54


@dataclass(frozen=True, slots=True)
class Adapted:
    """One use of a shared block: its attention and its MLP, with the low-rank products that belong to this use alone."""

    use: int
    adapt_attention: bool
    rope: bool
    bias: bool

    def attention(self, b: Draft, source: str, prefix: str = "self_attn.") -> None:
        """Add the projections and their adapters, the attention and its cache, into `attended`."""
        adapted = []
        for letter, axis in (("q", "q"), ("k", "kv"), ("v", "kv")):
            b.linear(f"{prefix}{letter}_proj", source, letter, (axis, "h.pair"), "attention")
            adapted.append(letter)
            if self.adapt_attention:
                name = f"{prefix}linear_{letter}_adapter_list.{self.use}"
                b.linear(f"{name}.0", source, f"{letter}_low", ("rank", "h.pair"), "attention")
                b.linear(f"{name}.1", f"{letter}_low", f"{letter}_add", (axis, "rank"), "attention")
                b.add(letter, f"{letter}_add", f"{letter}_sum")
                adapted[-1] = f"{letter}_sum"
        if self.rope:
            b.op("rope", adapted[:2], "qr", (*b.tokens, "q"))
            adapted[0] = "qr"
        attend(b, Span(), reads=adapted)
        b.caches.append(kv_cache(Span(), ((2, ("kvh", "hd")),)))
        b.linear(f"{prefix}o_proj", "att", "attended", ("h", "q"), "attention")

    def feed(self, b: Draft, source: str, prefix: str = "feed_forward.") -> None:
        """Add the gated MLP, whose joined matrix has an adapter, into `shared`."""
        b.linear(f"{prefix}gate_up_proj", source, "gate_up", ("gate_up", "h"), "mlp", self.bias)
        name = f"{prefix}gate_up_proj_adapter_list.{self.use}"
        b.linear(f"{name}.0", source, "gate_up_low", ("rank", "h"), "mlp")
        b.linear(f"{name}.1", "gate_up_low", "gate_up_add", ("gate_up", "rank"), "mlp")
        b.add("gate_up", "gate_up_add", "gate_up_sum")
        b.op("gate", ("gate_up_sum",), "act", (*b.tokens, "ffn"))
        b.linear(f"{prefix}down_proj", "act", "shared", ("h", "ffn"), "mlp", self.bias)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Zamba2Config; its class has a bias in the convolution whatever the file says."""
    kinds = _kinds(c)
    hybrids = [index for index, kind in enumerate(kinds) if kind == "hybrid"]
    names = list(kinds)
    for use, index in enumerate(hybrids):
        names[index] = f"hybrid-{use}"
    blocks = c.number("num_mem_blocks", default=1, of=OF)
    bias = c.flag("add_bias_linear")
    adapt, rope = c.flag("use_shared_attention_adapter"), c.flag("use_mem_rope")
    mamba = Mamba2(bias, bias)

    def layer(b: Draft, kind: str) -> None:
        if kind == "mamba":
            mixer_layer(b, lambda d, source: mamba.write(d, source, "mamba."), "input_layernorm")
            return
        use = int(kind.removeprefix("hybrid-"))
        adapted = Adapted(use, adapt, rope, bias)
        root = f"model.layers.{hybrids[use % blocks]}.shared_transformer."
        hybrid_layer(
            b,
            lambda d, source: mamba.write(d, source, "mamba_decoder.mamba."),
            lambda d, _: shared_block(d, root, adapted.attention, adapted.feed),
        )
        if use >= blocks:
            without(b, root, keep="_adapter_list.")

    tied = c.flag("tie_word_embeddings", default=True)
    head = head_block(EMBEDDINGS, tied, "model.final_layernorm")
    sizes = _axes(c, adapt)
    return assemble(c, "zamba2", [embedding_block(EMBEDDINGS), *by_kind(names, layer), head], sizes, DERIVED, tied)


def _kinds(c: Config) -> list[str]:
    for name in ("layers_block_type", "layer_types"):
        if (found := c.entries(name)) is not None:
            return counted(c, c.layer_kinds(name, len(found), HYBRID_KINDS) or [])
    if c.layers() != DEFAULT_LAYERS:
        raise CannotAnswer(
            f"the configuration has no layers_block_type, and the class knows one for {DEFAULT_LAYERS} layers only",
            needs=["layers_block_type"],
        )
    return ["hybrid" if index in DEFAULT_HYBRIDS else "mamba" for index in range(DEFAULT_LAYERS)]


def _axes(c: Config, adapt: bool) -> dict[str, int]:
    sizes = shared_axes(c, OF, 32, None)
    if adapt and not sizes["h.pair"] == sizes["qh"] * sizes["hd"] == sizes["kvh"] * sizes["hd"]:
        raise UsageError(
            "the configuration contradicts itself: use_shared_attention_adapter needs queries, keys and values as wide as "
            "what the block reads"
        )
    heads = c.number("n_mamba_heads", default=8, of=OF)
    inner = expanded(c, sizes["h"], OF, "mamba_expand")
    return (
        sizes
        | mamba2_axes(
            c,
            heads,
            c.number("mamba_headdim", default=c.divides(inner, heads, "n_mamba_heads does not divide the inner width")),
            c.number("mamba_ngroups", default=1, of=OF),
            c.number("mamba_d_state", default=64, of=OF),
            c.number("mamba_d_conv", default=4, of=OF),
            inner,
        )
        | {
            "ffn": c.number("intermediate_size", default=4 * sizes["h"]),
            "rank": c.number("adapter_rank", default=128, of=OF),
        }
    )

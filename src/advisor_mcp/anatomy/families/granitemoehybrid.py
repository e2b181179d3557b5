"""Granite 4: Mamba 2 layers with attention at a few places, stacked experts beside an MLP that every token passes."""

from __future__ import annotations

from functools import partial

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.granitemoe import EXPERTS, SHARED_DERIVED, WithShared
from advisor_mcp.anatomy.inventory import Architecture, Span, Terms
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
from advisor_mcp.anatomy.recurrent import (
    LAYER_KINDS,
    MAMBA2_DERIVED,
    Mamba2,
    Positionless,
    Write,
    mixer_layer,
    of_sizes,
    prefixed_axes,
)

MODEL_TYPES = ("granitemoehybrid",)
OF = "GraniteMoeHybridConfig"
DERIVED: dict[str, Terms] = GROUPED_DERIVED | MAMBA2_DERIVED | SHARED_DERIVED | {"gate_up": ((2, ("moe_ffn",)),)}
EMBEDDINGS = "model.embed_tokens.weight"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' GraniteMoeHybridConfig; without experts the shared MLP is the only one."""
    kinds = _kinds(c)
    sizes = grouped_axes(c, OF)
    sizes |= {"shared_ffn": c.number("shared_intermediate_size"), "vocab": c.number("vocab_size")}
    if "mamba" in kinds:
        sizes |= prefixed_axes(c, sizes["h"], OF)
    sparse = c.number("num_local_experts", default=8, of=OF, least=0) > 0
    if sparse:
        sizes |= expert_axes(c, "num_local_experts", width="intermediate_size")
    mixers, feed = _mixers(c), WithShared(EXPERTS).write if sparse else _dense

    def layer(b: Draft, kind: str) -> None:
        mixer_layer(b, mixers[kind], "input_layernorm", feed, "post_attention_layernorm")

    tied = c.flag("tie_word_embeddings")
    blocks = [embedding_block(EMBEDDINGS), *by_kind(kinds, layer), head_block(EMBEDDINGS, tied)]
    return assemble(c, "granitemoehybrid", blocks, sizes, of_sizes(DERIVED, sizes), tied)


def _kinds(c: Config) -> list[str]:
    layers = c.layers()
    for name in ("layer_types", "layers_block_type"):
        if (found := c.layer_kinds(name, layers, LAYER_KINDS)) is not None:
            return found
    return ["mamba"] * layers


def _mixers(c: Config) -> dict[str, Write]:
    bias, proj = c.flag("attention_bias"), c.flag("mamba_proj_bias")
    attention: Write = Positionless(bias).write
    if c.text("position_embedding_type") == "rope":
        attention = partial(Grouped(q_bias=bias, kv_bias=bias, o_bias=bias).write, span=Span())
    mamba = partial(Mamba2(proj, proj, c.flag("mamba_conv_bias", default=True)).write, prefix="mamba.")
    return {"attention": attention, "mamba": mamba}


def _dense(b: Draft, source: str) -> None:
    b.linear("shared_mlp.input_linear", source, "gate_up", ("shared_gate_up", "h"), "mlp")
    b.op("gate", ("gate_up",), "act", (*b.tokens, "shared_ffn"))
    b.linear("shared_mlp.output_linear", "act", "y", ("h", "shared_ffn"), "mlp")

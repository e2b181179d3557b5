"""Jamba: attention once in eight layers, Mamba in the others, and experts in every second feed-forward part."""

from __future__ import annotations

from functools import partial

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Experts,
    Gated,
    assemble,
    by_kind,
    embedding_block,
    expert_axes,
    grouped_axes,
    head_block,
)
from advisor_mcp.anatomy.recurrent import (
    MAMBA1_DERIVED,
    Mamba1,
    Positionless,
    Write,
    expanded,
    mixer_layer,
    periodic,
    time_step_rank,
)

MODEL_TYPES = ("jamba",)
OF = "JambaConfig"
EXPERTS = Experts(router="feed_forward.router", prefix="feed_forward.experts.{expert}.")
EMBEDDINGS = "model.embed_tokens.weight"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' JambaConfig; one expert means none, and an expert is as wide as a dense part."""
    layers = c.layers()
    attention, sparse = periodic(c, layers, "attn", 8, 4), periodic(c, layers, "expert", 2, 1)
    if c.number("num_experts", "num_local_experts", default=16, of=OF) == 1:
        sparse = [False] * layers
    kinds = [
        f"{'attention' if a else 'mamba'}-{'moe' if m else 'dense'}" for a, m in zip(attention, sparse, strict=True)
    ]
    mixers: dict[str, Write] = {"attention": Positionless().write, "mamba": partial(_mamba(c).write, prefix="mamba.")}
    feeds: dict[str, Write] = {
        "dense": partial(Gated().write, prefix="feed_forward."), "moe": partial(EXPERTS.write, out="y")
    }  # fmt: skip

    def layer(b: Draft, kind: str) -> None:
        mixer, feed = kind.split("-")
        mixer_layer(b, mixers[mixer], "input_layernorm", feeds[feed], "pre_ff_layernorm")

    tied = c.flag("tie_word_embeddings")
    blocks = [
        embedding_block(EMBEDDINGS), *by_kind(kinds, layer), head_block(EMBEDDINGS, tied, "model.final_layernorm")
    ]  # fmt: skip
    return assemble(c, "jamba", blocks, _axes(c, any(sparse)), GROUPED_DERIVED | MAMBA1_DERIVED, tied)


def _mamba(c: Config) -> Mamba1:
    return Mamba1(c.flag("mamba_proj_bias"), c.flag("mamba_conv_bias", default=True), norms="weighted")


def _axes(c: Config, sparse: bool) -> dict[str, int]:
    sizes = grouped_axes(c, OF, kv_heads=None if "num_key_value_heads" in c.data else 8)
    sizes |= {
        "inner": expanded(c, sizes["h"], OF, "mamba_expand"),
        "state": c.number("mamba_d_state", default=16, of=OF),
        "conv_kernel": c.number("mamba_d_conv", default=4, of=OF),
        "dt_rank": time_step_rank(c, sizes["h"], "mamba_dt_rank"),
        "ffn": c.number("intermediate_size"),
        "vocab": c.number("vocab_size"),
    }
    return sizes | (expert_axes(c, "num_experts", width="intermediate_size") if sparse else {})

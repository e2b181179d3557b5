"""Qwen3-Next: three layers of Gated DeltaNet to one of gated attention, and many small experts with a shared one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.qwen3_moe import JOINED_DERIVED, SEPARATE, mixture, sparse_layers
from advisor_mcp.anatomy.inventory import Architecture, Block, Span, Terms, count
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    TOKENS,
    Attention,
    Draft,
    Experts,
    Feed,
    Gated,
    Grouped,
    assemble,
    by_kind,
    embedding_block,
    expert_axes,
    grouped_axes,
    head_block,
    pre_norm_layer,
)
from advisor_mcp.anatomy.recurrent_delta import DERIVED as DELTA_DERIVED
from advisor_mcp.anatomy.recurrent_delta import GatedDelta, delta_axes, state_dtype
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = ("qwen3_next",)
LAYER_KINDS = {"full_attention": "full", "linear_attention": "linear"}
DERIVED: dict[str, Terms] = (
    GROUPED_DERIVED | DELTA_DERIVED | {"q_and_gate": ((2, ("qh", "hd")),), "h_twice": ((2, ("h",)),)}
)


@dataclass(frozen=True, slots=True)
class Hybrid:
    """What distinguishes the decoders of this line: the class of their configuration, its attention defaults, its delta layer.

    `sparse` marks the layers with experts, `experts` is how the checkpoint holds them.
    """

    of: str
    heads: int
    kv_heads: int
    projections: Literal["joined", "split"]
    sparse: tuple[bool, ...]
    experts: Experts = SEPARATE


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Qwen3NextConfig."""
    hybrid = Hybrid("Qwen3NextConfig", 16, 2, "joined", tuple(sparse_layers(c)))
    return decoder(c, "qwen3_next", hybrid, c.flag("tie_word_embeddings"))


def decoder(c: Config, family: str, hybrid: Hybrid, tied: bool) -> Architecture:
    """The decoder of Qwen3-Next, 3.5 and 3.6, with the prediction layer that its checkpoints hold beside it."""
    if not c.flag("attn_output_gate", default=True):
        raise CannotAnswer(
            f"{c.prefix}attn_output_gate is false; attention without its output gate is not described here"
        )
    kinds = [f"{mixer}-{'moe' if moe else 'dense'}" for mixer, moe in zip(mixers(c), hybrid.sparse, strict=True)]
    sizes = _axes(c, hybrid)
    layer = _Layer.of(c, hybrid)
    blocks = [
        embedding_block(),
        *by_kind(kinds, layer.write),
        head_block("model.embed_tokens.weight", tied),
    ]
    beside, missing = _prediction(c, layer, sizes, hybrid)
    stacked = any(hybrid.sparse) and hybrid.experts.layout != "separate"
    derived = DERIVED | (JOINED_DERIVED if stacked else {})
    spans = [Span()] if any(kind.startswith("full") for kind in kinds) else []
    return assemble(c, family, blocks, sizes, derived, tied, spans, beside=beside, not_described=missing)


def mixers(c: Config) -> list[str]:
    """The mixer of each layer: as listed, or full attention in every `full_attention_interval`-th and linear in the rest."""
    layers = c.layers()
    listed = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    if listed is not None:
        return listed
    every = c.number("full_attention_interval", default=4)
    return ["linear" if (index + 1) % every else "full" for index in range(layers)]


@dataclass(frozen=True, slots=True)
class _Layer:
    attention: dict[str, Attention]
    feeds: dict[str, Feed]

    @classmethod
    def of(cls, c: Config, hybrid: Hybrid) -> _Layer:
        bias = c.flag("attention_bias")
        return cls(
            {
                "full": Grouped(q_bias=bias, kv_bias=bias, o_bias=bias, qk_norm=True, gated=True),
                "linear": GatedDelta(hybrid.projections, state_dtype(c)),
            },
            {"dense": Gated(), "moe": mixture(True, hybrid.experts)},
        )

    def write(self, b: Draft, kind: str) -> None:
        mixer, feed = kind.split("-")
        pre_norm_layer(b, self.attention[mixer], self.feeds[feed], Span())


def _axes(c: Config, hybrid: Hybrid) -> dict[str, int]:
    of = hybrid.of
    sizes = grouped_axes(c, of, hybrid.heads, hybrid.kv_heads, head_dim=256)
    sizes |= {"vocab": c.number("vocab_size")}
    sizes |= delta_axes(
        c,
        key_heads=c.number("linear_num_key_heads", default=16, of=of),
        value_heads=c.number("linear_num_value_heads", default=32, of=of),
        key_dim=c.number("linear_key_head_dim", default=128, of=of),
        value_dim=c.number("linear_value_head_dim", default=128, of=of),
        kernel=c.number("linear_conv_kernel_dim", default=4, of=of),
    )
    if any(hybrid.sparse):
        sizes |= expert_axes(c, "num_experts")
        sizes["shared_ffn"] = c.number("shared_expert_intermediate_size", default=512, of=of)
    if not all(hybrid.sparse):
        sizes["ffn"] = c.number("intermediate_size")
    return sizes


def _prediction(
    c: Config, layer: _Layer, sizes: dict[str, int], hybrid: Hybrid
) -> tuple[tuple[Block, ...], tuple[str, ...]]:
    """The multi-token-prediction layers beside the model; where the file is silent about them, what they would add."""
    names = ("mtp_num_hidden_layers", "num_nextn_predict_layers")
    stated = c.given(*names)
    if stated and not c.number(*names, least=0):
        return (), ()
    layers = c.layers(*names) if stated else 1
    # the prediction layer's experts are single tensors even where the model's own are stacked
    kind = "full-moe" if hybrid.sparse[-1] else "full-dense"
    alone = _Layer(layer.attention, layer.feeds | {"moe": mixture(True)})
    blocks: tuple[Block, ...] = (_join(), *by_kind([kind] * layers, alone.write, "mtp.layers.{layer}."))
    if c.flag("mtp_use_dedicated_embeddings"):
        blocks = (*blocks, embedding_block("mtp.embed_tokens.weight"))
    if stated:
        return blocks, ()
    bound = _bound(sizes)
    more = sum(block.repeat * count(t.copies + t.axes, bound) for block in blocks for t in block.tensors)
    return (), (
        "the configuration does not say whether the checkpoint holds a prediction layer (mtp.*) beside the model, which would "
        f"add {more:,} parameters",
    )


def _bound(sizes: dict[str, int]) -> dict[str, int]:
    return sizes | {name: int(sum(c * count(axes, sizes) for c, axes in terms)) for name, terms in DERIVED.items()}


def _join() -> Block:
    """How the prediction layer takes its input: the last state and the next token's embedding, each normalised, joined."""
    b = Draft("mtp", "mtp.")
    b.value("x", (*TOKENS, "h"))
    b.value("embedded", (*TOKENS, "h"))
    b.norm("pre_fc_norm_embedding", "embedded", "e")
    b.norm("pre_fc_norm_hidden", "x", "s")
    b.op("concatenate", ("e", "s"), "both", (*TOKENS, "h_twice"))
    b.linear("fc", "both", "joined", ("h", "h_twice"), "other")
    b.norm("norm", "y", "out")
    return b.block((0,))

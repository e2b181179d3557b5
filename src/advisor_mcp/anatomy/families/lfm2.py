"""LFM2: gated short convolutions with grouped-query attention at a few places; experts in all but the first layers of LFM2-MoE."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block, Span, Tensor, Terms
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Experts,
    Gated,
    Grouped,
    assemble,
    by_kind,
    embedding_block,
    expert_axes,
    grouped_axes,
    head_block,
)
from advisor_mcp.anatomy.recurrent import ROLE, Write, convolve, factor, layer_numbers, mixer_layer
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = ("lfm2", "lfm2_moe")
KINDS = {"conv": "conv", "full_attention": "attention"}
MATRICES = ("w1", "w3", "w2")
EXPERTS = Experts("feed_forward.gate", prefix="feed_forward.experts.{expert}.", names=MATRICES)
ATTENTION = Grouped(
    qk_norm=True, names=("q_proj", "k_proj", "v_proj", "out_proj"), norms=("q_layernorm", "k_layernorm")
)
DERIVED: dict[str, Terms] = GROUPED_DERIVED | {"b_c_x": ((3, ("inner",)),)}
EMBEDDINGS = "model.embed_tokens.weight"


@dataclass(frozen=True, slots=True)
class ShortConvolution:
    """A convolution over a few tokens, gated before (B) and after (C) by products of the same input."""

    bias: bool

    def write(self, b: Draft, source: str, prefix: str = "conv.") -> None:
        """Add the joined projection, both gates, the convolution with what it keeps, and the output product, into `o`."""
        inner = (*b.tokens, "inner")
        b.linear(f"{prefix}in_proj", source, "b_c_x", ("b_c_x", "h"), ROLE, self.bias)
        b.op("gate", ("b_c_x",), "bx", inner)
        convolve(b, f"{prefix}conv", "bx", "xc", "inner", self.bias)
        b.op("gate", ("xc", "b_c_x"), "cx", inner)
        b.linear(f"{prefix}out_proj", "cx", "o", ("h", "inner"), ROLE, self.bias)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Lfm2Config or Lfm2MoeConfig; older names of a field come before newer ones."""
    family = c.text("model_type") or "lfm2"
    of = "Lfm2MoeConfig" if family == "lfm2_moe" else "Lfm2Config"
    mixing, dense = _kinds(c, family), _dense_layers(c, family)
    kinds = [f"{kind}-{'dense' if index < dense else 'moe'}" for index, kind in enumerate(mixing)]
    sizes = grouped_axes(c, of, kv_heads=None if "num_key_value_heads" in c.data else 8)
    sizes |= {"inner": sizes["h"], "conv_kernel": c.number("conv_L_cache", default=3, of=of)}
    sizes["vocab"] = c.number("vocab_size")
    if dense:
        sizes["ffn"] = c.number("intermediate_size") if family == "lfm2_moe" else _width(c)
    if dense < len(kinds):
        sizes |= expert_axes(c, "num_experts")
    mixers: dict[str, Write] = {
        "conv": ShortConvolution(c.flag("conv_bias")).write, "attention": partial(ATTENTION.write, span=Span())
    }  # fmt: skip
    feeds: dict[str, Write] = {
        "dense": partial(Gated(names=MATRICES).write, prefix="feed_forward."), "moe": partial(EXPERTS.write, out="y")
    }  # fmt: skip

    def layer(b: Draft, kind: str) -> None:
        mixer, feed = kind.split("-")
        mixer_layer(b, mixers[mixer], "operator_norm", feeds[feed], "ffn_norm")

    tied = c.flag("tie_embedding", "tie_word_embeddings", default=True)
    head = head_block(EMBEDDINGS, tied, "model.embedding_norm")
    blocks = [embedding_block(EMBEDDINGS), *by_kind(kinds, layer), head]
    return assemble(c, family, blocks, sizes, DERIVED, tied, beside=_expert_biases(c, range(dense, len(kinds))))


def _kinds(c: Config, family: str) -> list[str]:
    layers = c.layers()
    listed = c.layer_kinds("layer_types", layers, KINDS)
    if listed is not None:
        return listed
    places = layer_numbers(c, "full_attn_idxs", layers)
    if family == "lfm2_moe" and places is None:
        raise CannotAnswer(
            "the configuration has no layer_types, which says which layers have attention", needs=["layer_types"]
        )
    if places is None:
        return ["attention"] * layers
    return ["attention" if index in places else "conv" for index in range(layers)]


def _dense_layers(c: Config, family: str) -> int:
    layers = c.layers()
    if family == "lfm2":
        return layers
    return min(c.number("num_dense_layers", default=2, of="Lfm2MoeConfig", least=0), layers)


def _width(c: Config) -> int:
    """The MLP's width: two thirds of what the file says, scaled and rounded up, unless it says that it is exact."""
    width = c.number("block_ff_dim", "intermediate_size")
    if not c.flag("block_auto_adjust_ff_dim", default=True):
        return width
    width = 2 * width // 3
    multiple = c.number("block_multiple_of", default=256, of="Lfm2Config")
    width = int(factor(c, "block_ffn_dim_multiplier", 1.0) * width)
    return -(-width // multiple) * multiple


def _expert_biases(c: Config, layers: range) -> tuple[Block, ...]:
    """The buffers that steer the routing, stored in fp32."""
    if not layers or not c.flag("use_expert_bias", default=True):
        return ()
    name = "model.layers.{layer}.feed_forward.expert_bias"
    return (Block("router biases", tuple(layers), (Tensor(name, ("choices",), "router", dtype="fp32"),)),)

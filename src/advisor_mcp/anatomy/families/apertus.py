"""Apertus: normalised queries and keys, and an MLP of two matrices whose activation has two learned scalars."""

from __future__ import annotations

from dataclasses import dataclass, replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.parts import Draft, Plain
from advisor_mcp.anatomy.variants import Heads, Order, axes_of, dense, with_ffn

MODEL_TYPES = ("apertus",)
ORDER = Order(before_attention="attention_layernorm", before_feed="feedforward_layernorm")


@dataclass(frozen=True, slots=True)
class Xielu:
    """An MLP of two matrices with xIELU (arXiv:2411.13010) between them."""

    def write(self, b: Draft, source: str) -> None:
        """Add the two products and the activation."""
        b.linear("mlp.up_proj", source, "up", ("ffn", "h"), "mlp")
        scalars = [b.tensor(f"mlp.act_fn.{name}", (1,), "mlp") for name in ("alpha_p", "alpha_n")]
        b.op("activation", ("up",), "act", (*b.tokens, "ffn"), weights=scalars)
        b.linear("mlp.down_proj", "act", "y", ("h", "ffn"), "mlp")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' ApertusConfig; another activation than xIELU has no scalars."""
    bias = c.flag("attention_bias")
    attention = Heads(q_bias=bias, kv_bias=bias, o_bias=bias, qk_norm="head")
    learned = (c.text("hidden_act") or "xielu") == "xielu"
    feed = Xielu() if learned else Plain(bias=False)
    tied = c.flag("tie_word_embeddings")
    described = dense(c, "apertus", attention, feed, with_ffn(c, axes_of(c)), order=ORDER, tied=tied)
    return replace(described, beside=(_constants(c.layers()),)) if learned else described


def _constants(layers: int) -> Block:
    """xIELU's two constants, which the checkpoint stores as buffers."""
    b = Draft("activation constants", "model.layers.{layer}.")
    for name in ("beta", "eps"):
        b.tensor(f"mlp.act_fn.{name}", (), "mlp")
    return b.block(tuple(range(layers)))

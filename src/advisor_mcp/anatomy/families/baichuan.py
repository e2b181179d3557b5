"""Baichuan 1 and 2: Llama's layer with one fused q-k-v matrix and as many KV heads as heads."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated
from advisor_mcp.anatomy.variants import Heads, axes_of, dense, with_ffn
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("baichuan",)


def describe(c: Config) -> Architecture:
    """A configuration of Baichuan's BaichuanConfig (the 13B models use ALiBi, which has no parameters)."""
    sizes = with_ffn(c, axes_of(c))
    if sizes["kvh"] != sizes["qh"]:
        raise UsageError(f"Baichuan has as many KV heads as heads, {sizes['qh']}, not {sizes['kvh']}")
    return dense(c, "baichuan", Heads(fused="W_pack"), Gated(), sizes, tied=c.flag("tie_word_embeddings"))

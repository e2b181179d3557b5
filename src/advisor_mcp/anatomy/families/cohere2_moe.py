"""Cohere's mixture of experts: Command's parallel layer with routed experts, behind dense layers where there are any."""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.cohere import PARALLEL
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Experts, Feed, Gated, Mixture, expert_axes
from advisor_mcp.anatomy.variants import LAYER_KINDS, Heads, axes_of, decoder, spans_of

MODEL_TYPES = ("cohere2_moe",)
CLASS = "Cohere2MoeConfig"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Cohere2MoeConfig; `intermediate_size` is the width of one expert."""
    layers, bias = c.layers(), c.flag("attention_bias")
    first = min(c.number("first_k_dense_replace", default=0, least=0), layers)
    feeds = _feeds(c, layers, first)
    sizes = axes_of(c, CLASS, head_dim=128)
    parts: dict[str, Feed] = {"dense": Gated()}
    if "dense" in feeds:
        sizes["ffn"] = c.number("prefix_dense_intermediate_size", "intermediate_size")
    if "moe" in feeds:
        sizes |= expert_axes(c, "num_experts", "intermediate_size")
        shared = c.number("num_shared_experts", default=0, least=0)
        sizes |= {"shared_ffn": shared * sizes["moe_ffn"]} if shared else {}
        parts["moe"] = Mixture(Experts(), Gated(axis="shared_ffn", role="shared_expert") if shared else None)
    kinds = [f"{feed}-{reach}" for feed, reach in zip(feeds, _spans(c, layers, first), strict=True)]
    attention = Heads(q_bias=bias, kv_bias=bias, o_bias=bias)
    order = replace(PARALLEL, kind="rms") if c.data.get("rms_norm_eps") is not None else PARALLEL
    tied = c.flag("tie_word_embeddings", default=True)
    spans = spans_of(c, 4096, CLASS)
    return decoder(c, "cohere2_moe", kinds, spans, attention, parts, sizes, order=order, tied=tied)


def _feeds(c: Config, layers: int, first: int) -> list[str]:
    listed = c.layer_kinds("mlp_layer_types", layers, {"dense": "dense", "sparse": "moe"})
    return listed or ["dense"] * first + ["moe"] * (layers - first)


def _spans(c: Config, layers: int, first: int) -> list[str]:
    listed = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    if listed is not None:
        return listed
    prefix = c.number("prefix_dense_sliding_window_pattern", default=1)
    rest = c.number("sliding_window_pattern", default=4)
    patterns = [(index, prefix) for index in range(first)] + [(index, rest) for index in range(layers - first)]
    return ["sliding" if (index + 1) % full else "full" for index, full in patterns]

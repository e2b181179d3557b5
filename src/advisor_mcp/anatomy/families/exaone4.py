"""EXAONE 4 and K-EXAONE: normalised queries and keys, windows in a pattern such as LLLG, dense or with experts."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block, Span
from advisor_mcp.anatomy.parts import Draft, Experts, Feed, Gated, Mixture, expert_axes
from advisor_mcp.anatomy.variants import (
    LAYER_KINDS,
    POST_NORM,
    PRE_NORM,
    Heads,
    axes_of,
    decoder,
    dense,
    spans_of,
    with_ffn,
)
from advisor_mcp.errors import CannotAnswer, shown

MODEL_TYPES = ("exaone4", "exaone_moe")
ATTENTION = Heads(qk_norm="head")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Exaone4Config (norms after attention and MLP) or ExaoneMoeConfig (before)."""
    family, tied = c.text("model_type") or "exaone4", c.flag("tie_word_embeddings")
    of = "ExaoneMoeConfig" if family == "exaone_moe" else "Exaone4Config"
    sizes, spans = axes_of(c, of, kv_heads=32), spans_of(c, 4096, of)
    reach = _windows(c, spans["sliding"].window)
    if family == "exaone4":
        return dense(
            c, family, ATTENTION, Gated(), with_ffn(c, sizes), order=POST_NORM, tied=tied, spans=spans, kinds=reach
        )
    mlp, feeds = _mixture(c, sizes)
    kinds = [f"{feed}-{span}" for feed, span in zip(mlp, reach, strict=True)]
    beside = tuple(_beside(c, mlp, sizes))
    return decoder(c, family, kinds, spans, ATTENTION, feeds, sizes, tied=tied, beside=beside)


def _windows(c: Config, window: int | None) -> list[str]:
    """Listed; or by a number (every n-th layer sees everything); or by letters, L for a window (never in the last layer)."""
    layers = c.layers()
    listed = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    if window is None:
        return ["full"] * layers
    if listed is not None:
        return listed
    pattern = c.data.get("sliding_window_pattern", 4)
    if not isinstance(pattern, str):
        full = c.number("sliding_window_pattern", default=4)
        return ["sliding" if (index + 1) % full else "full" for index in range(layers)]
    if not pattern or set(pattern) - {"L", "G"}:
        raise CannotAnswer(f"sliding_window_pattern {shown(pattern)} is not described; known are the letters L and G")
    local = [pattern[index % len(pattern)] == "L" for index in range(layers)]
    return ["sliding" if mark and index < layers - 1 else "full" for index, mark in enumerate(local)]


def _mixture(c: Config, sizes: dict[str, int]) -> tuple[list[str], dict[str, Feed]]:
    """The layers' feed-forward parts; adds their axes."""
    layers = c.layers()
    mlp = c.layer_kinds("mlp_layer_types", layers, {"dense": "dense", "sparse": "moe"})
    if mlp is None:
        first = c.number("first_k_dense_replace", default=1, of="ExaoneMoeConfig", least=0)
        mlp = ["dense" if index < first else "moe" for index in range(layers)]
    feeds: dict[str, Feed] = {"dense": Gated()}
    if "dense" in mlp:
        sizes["ffn"] = c.number("intermediate_size")
    if "moe" in mlp:
        sizes |= expert_axes(c, "num_experts")
        shared = c.number("num_shared_experts", default=1, of="ExaoneMoeConfig", least=0)
        if shared:
            sizes["shared_ffn"] = shared * sizes["moe_ffn"]
        feeds["moe"] = Mixture(Experts(), Gated(axis="shared_ffn", role="shared_expert") if shared else None)
    return mlp, feeds


def _beside(c: Config, mlp: list[str], sizes: dict[str, int]) -> list[Block]:
    """The router's bias buffer, and the prediction layers: dense layers behind a projection of state and next token."""
    found, layers = [], tuple(index for index, kind in enumerate(mlp) if kind == "moe")
    if layers:
        bias = Draft("router bias", "model.layers.{layer}.")
        bias.tensor("mlp.e_score_correction_bias", ("choices",), "router")
        found.append(bias.block(layers))
    if c.number("num_nextn_predict_layers", default=0, least=0):
        predicted = c.layers("num_nextn_predict_layers")
        sizes["ffn"] = c.number("intermediate_size")
        layer = Draft("prediction layer", "mtp.layers.{layer}.")
        layer.value("x", ("b", "s", "h"))
        PRE_NORM.write(layer, ATTENTION, Gated(), Span())
        ends = Draft("prediction projection", "mtp.")
        ends.linear("fc", "pair", "x", ("h", 2 * sizes["h"]), "other")
        for name in ("pre_fc_norm_hidden", "pre_fc_norm_embedding", "norm"):
            ends.norm(name, "x", name)
        found += [ends.block((0,)), layer.block(tuple(range(predicted)))]
    return found

"""Meta's Muse Glimmer (dense) and Muse Spark (experts in a narrower stream): normalised queries and keys, gated attention.

Norms stand before and after each part. Every fourth layer, counted from the last, sees everything. The towers for images
and sound are not described.
"""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.nanochat import normed_embedding
from advisor_mcp.anatomy.inventory import Architecture, Span, Terms
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, filled, joined, with_fields
from advisor_mcp.anatomy.nested import text_part, tie
from advisor_mcp.anatomy.parts import (
    RESIDUAL,
    Attention,
    Draft,
    Feed,
    Gated,
    assemble,
    by_kind,
    grouped_axes,
    head_block,
)
from advisor_mcp.anatomy.sparse import MLP_KINDS, Filled, router_biases
from advisor_mcp.anatomy.variants import DERIVED, LAYER_KINDS, Heads, Order, spans_of
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("muse_glimmer", "muse_glimmer_text", "muse_spark", "muse_spark_text")
CLASSES = {
    "muse_glimmer_text": (
        "MuseGlimmerTextConfig",
        {"num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128},
    ),
    "muse_spark_text": (
        "MuseSparkTextConfig",
        {"num_attention_heads": 128, "num_key_value_heads": 16, "head_dim": 64}
        | {"num_local_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 4096, "moe_hidden_size": 4096},
    ),
}
# what a nested configuration may leave out too
NESTED = {
    "muse_glimmer": {"hidden_size": 6656, "intermediate_size": 19968, "num_hidden_layers": 52, "vocab_size": 202048},
    "muse_spark": {"hidden_size": 8192, "intermediate_size": 16384, "num_hidden_layers": 62, "vocab_size": 202048},
}
ORDER = Order(
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"
)  # fmt: skip
TOWERS = {
    "muse_glimmer": "the vision tower and its projection, which are not described here",
    "muse_spark": "the vision and audio towers and their projections, which are not described here",
}


@dataclass(frozen=True, slots=True)
class NarrowExperts:
    """Routed experts that run at the width `moe_h`, between a product into it and one out of it."""

    def write(self, b: Draft, source: str) -> None:
        """Add the router, both products with their norms, and the experts' products over the routed tokens."""
        rows = (*b.tokens, "topk")
        b.linear("mlp.gate", source, "scores", ("choices", "h"), "router")
        b.op("top_k", ("scores",), "routes", rows)
        b.linear("mlp.pre_expert_proj", source, "narrow", ("moe_h", "h"), "mlp")
        b.norm("mlp.pre_expert_norm", "narrow", "narrow_n", axis="moe_h")
        joined_up = b.tensor("mlp.experts.gate_up_proj", ("expert", "gate_up", "moe_h"), "routed_experts", matrix=True)
        down = b.tensor("mlp.experts.down_proj", ("expert", "moe_h", "moe_ffn"), "routed_experts", matrix=True)
        up: Terms = ((2, (*rows, "moe_h", "gate_up")),)
        b.op("linear", ("narrow_n",), "expert_gate_up", (*rows, "gate_up"), up, [joined_up])
        b.op("gate", ("expert_gate_up",), "expert_act", (*rows, "moe_ffn"))
        b.op("linear", ("expert_act",), "expert_out", (*rows, "moe_h"), ((2, (*rows, "moe_ffn", "moe_h")),), [down])
        b.norm("mlp.experts.post_expert_norm", "expert_out", "expert_n", axis="moe_h", axes=(*rows, "moe_h"))
        b.op("combine", ("expert_n", "routes"), "routed", (*b.tokens, "moe_h"))
        b.linear("mlp.post_expert_proj", "routed", "y", ("h", "moe_h"), "mlp")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MuseGlimmerConfig or MuseSparkConfig (5.23.0), or of the decoder of either."""
    family = c.text("model_type") or "muse_glimmer"
    if family.endswith("_text"):
        return _decoder(c, family, c.flag("tie_word_embeddings"))
    of, _ = CLASSES[f"{family}_text"]
    text = with_fields(filled(text_part(c), of, NESTED[family]), model_type=f"{family}_text")
    found = _decoder(text, f"{family}_text", tie(c, text, False))
    return joined(c, family, found, [], {}, LANGUAGE_MODEL, missing=(TOWERS[family],))


def _decoder(c: Config, family: str, tied: bool) -> Architecture:
    of, defaults = CLASSES[family]
    f = Filled(c, of, defaults)
    sizes = grouped_axes(f, of, head_dim=defaults["head_dim"]) | {"vocab": f.number("vocab_size")}
    layers, spark = f.layers(), family == "muse_spark_text"
    if not spark:
        f.divides(sizes["h"], sizes["qh"], "the heads do not divide hidden_size")
    feeds = (f.layer_kinds("mlp_layer_types", layers, MLP_KINDS) or ["moe"] * layers) if spark else ["dense"] * layers
    full = ["sliding" if (layers - 1 - index) % 4 else "full" for index in range(layers)]
    reach = f.layer_kinds("layer_types", layers, LAYER_KINDS) or full
    spans, bias = spans_of(f, 2048, of), f.flag("attention_bias")
    if "sliding" in reach and spans["sliding"].window is None:
        raise UsageError("sliding_window in the configuration is null, but some of its layers see a window")
    if "dense" in feeds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in feeds:
        sizes |= _experts(f)
    attention = Heads(bias, bias, bias, qk_norm="bare", gate="gate_proj")
    parts: dict[str, Feed] = {"dense": Gated(), "moe": NarrowExperts()}

    def write(b: Draft, kind: str) -> None:
        feed, span = kind.split("-")
        (_gated_layer if spark else _layer)(b, attention, parts[feed], spans[span])

    kinds = [f"{feed}-{span}" for feed, span in zip(feeds, reach, strict=True)]
    # Muse Spark's class ties nothing, whatever tie_word_embeddings says
    head = head_block("model.embed_tokens.weight", tied and not spark)
    blocks = [normed_embedding("model.embed_tokens.embed_norm"), *by_kind(kinds, write), head]
    routed = tuple(index for index, feed in enumerate(feeds) if feed == "moe")
    name = "model.layers.{layer}.mlp.gate.e_score_correction_bias"
    beside = (router_biases(name, routed),) if routed else ()
    derived = {axis: terms for axis, terms in DERIVED.items() if axis in ("q", "kv") or (axis == "gate_up" and routed)}
    used = [spans[kind] for kind in dict.fromkeys(reach)]
    return assemble(f, family, blocks, sizes, derived, tied and not spark, used, beside=beside)


def _experts(f: Filled) -> dict[str, int]:
    number, used = f.number("num_local_experts", "num_experts"), f.number("num_experts_per_tok")
    if used > number:
        raise UsageError(
            f"the configuration contradicts itself: num_experts_per_tok {used} exceeds its {number} experts"
        )
    sizes = {"expert": number, "choices": number, "topk": used, "moe_ffn": f.number("moe_intermediate_size")}
    return sizes | {"moe_h": f.number("moe_hidden_size")}


def _layer(b: Draft, attention: Attention, feed: Feed, span: Span) -> None:
    ORDER.write(b, attention, feed, span)


def _gated_layer(b: Draft, attention: Attention, feed: Feed, span: Span) -> None:
    """Muse Spark's layer: a learned gate per channel weighs the stream and the update; the first norm after has no weights."""
    b.norm("input_layernorm", "x", "a")
    attention.write(b, "a", span)
    b.norm("post_attention_layernorm", "o", "on", "none")
    _weighed(b, "post_attention_residual_gate.gate", "x", "on", "r")
    b.norm("pre_feedforward_layernorm", "r", "m")
    feed.write(b, "m")
    b.norm("post_feedforward_layernorm", "y", "yn")
    _weighed(b, "post_feedforward_residual_gate.gate", "r", "yn", "out")


def _weighed(b: Draft, name: str, stream: str, update: str, out: str) -> None:
    b.op("add", (stream, update), out, RESIDUAL, weights=[b.tensor(name, ("h",), "other")])

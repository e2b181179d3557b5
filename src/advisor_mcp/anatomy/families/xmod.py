"""X-MOD: RoBERTa's encoder with a small adapter of two matrices per language behind every layer's MLP."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import encoder, task
from advisor_mcp.anatomy.families.bert import CAUSAL, axes, embedded, reach, roberta_heads
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import Draft, by_kind
from advisor_mcp.errors import UsageError, shown

MODEL_TYPES = ("xmod",)
NORMS = ("attention.output.LayerNorm", "output.LayerNorm")
MOST_LANGUAGES = 10_000


def describe(c: Config) -> Architecture:
    """A configuration of transformers' XmodConfig; every token passes through the adapter of its own language."""
    sizes = heads_of(c) | axes(c, "XmodConfig")
    sizes["adapter"] = sizes["h"] // c.number("adapter_reduction_factor", default=2, of="XmodConfig")
    if not sizes["adapter"]:
        raise UsageError("the configuration contradicts itself: adapter_reduction_factor exceeds hidden_size")
    tied = c.flag("tie_word_embeddings", default=True)
    heads = roberta_heads("roberta.", tied)
    which = task(c, (*heads, *CAUSAL), "ForMaskedLM")
    prefix = "" if which == "Model" else "roberta."
    span, before = reach(c), c.flag("pre_norm")
    layer = _Layer(
        _languages(c), before, c.flag("adapter_layer_norm"), c.flag("adapter_reuse_layer_norm", default=True)
    )
    layers = by_kind(["full"] * c.layers(), lambda b, _: layer.write(b, span), f"{prefix}encoder.layer.{{layer}}.")
    chains = heads["ForMaskedLM" if which in CAUSAL else which]
    return encoder(
        c, "xmod", embedded(f"{prefix}embeddings."), layers, chains, sizes, prefix="",
        norm=f"{prefix}encoder.LayerNorm" if before else "", tied=tied, spans=[span],
    )  # fmt: skip


def _languages(c: Config) -> list[str]:
    listed = c.entries("languages")
    if listed is None:
        c.notes.append("languages is absent: en_XX alone, the default of XmodConfig")
        return ["en_XX"]
    for name in listed:
        if not isinstance(name, str) or not 0 < len(name) < 100:
            raise UsageError(f"languages in the configuration must list names of languages, not {shown(name)}")
    if not 0 < len(listed) <= MOST_LANGUAGES:
        raise UsageError(f"languages in the configuration must list 1 to {MOST_LANGUAGES} names, not {len(listed)}")
    return list(dict.fromkeys(listed))


@dataclass(frozen=True, slots=True)
class _Layer:
    """RoBERTa's layer, and the adapters behind its MLP; a norm of their own or the layer's stands before them."""

    languages: list[str]
    before: bool
    own_norm: bool
    reuse_norm: bool

    def write(self, b: Draft, span: Span) -> None:
        attention = Projected("attention.", ("self.query", "self.key", "self.value", "output.dense"))
        feed = _Adapted(Matrices("", ("intermediate.dense", "output.dense")), self)
        Layer(attention, feed, NORMS, "pre" if self.before else "post").write(b, span)


@dataclass(frozen=True, slots=True)
class _Adapted:
    matrices: Matrices
    layer: _Layer

    def write(self, b: Draft, source: str) -> None:
        self.matrices.write(b, source)
        last = "y"
        if self.layer.own_norm:
            b.norm("output.adapter_layer_norm", "y", "yn", "layer")
            last = "yn"
        elif self.layer.reuse_norm:
            b.op("norm", ("y",), "yn", (*b.tokens, "h"), weights=[f"{b.prefix}{NORMS[1]}.weight"])
            last = "yn"
        first, *others = (f"output.adapter_modules.{name}." for name in self.layer.languages)
        b.linear(f"{first}dense1", last, "narrow", ("adapter", "h"), "other", True)
        b.op("activation", ("narrow",), "narrow.act", (*b.tokens, "adapter"))
        b.linear(f"{first}dense2", "narrow.act", "adapted", ("h", "adapter"), "other", True)
        b.add(last, "adapted", "y.adapted")
        for name in others:
            _held(b, name)


def _held(b: Draft, name: str) -> None:
    """The adapter of another language: weights, and no work for a token of the first."""
    b.tensor(f"{name}dense1.weight", ("adapter", "h"), "other", matrix=True)
    b.tensor(f"{name}dense1.bias", ("adapter",), "other")
    b.tensor(f"{name}dense2.weight", ("h", "adapter"), "other", matrix=True)
    b.tensor(f"{name}dense2.bias", ("h",), "other")

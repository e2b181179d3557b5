"""SqueezeBERT: BERT's encoder with grouped convolutions of one position in place of most matrices."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.classics import heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import BOTH_WAYS, encoder, only_encoder, task
from advisor_mcp.anatomy.families.bert import axes, bert_heads, embedded
from advisor_mcp.anatomy.families.sparse_bert import with_pooler
from advisor_mcp.anatomy.inventory import Architecture, Axis, Span
from advisor_mcp.anatomy.parts import Draft, attend, by_kind
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("squeezebert",)
GROUPS = {"q": 4, "k": 4, "v": 4, "post_attention": 1, "intermediate": 4, "output": 4}
KNOWN = (
    "ForMaskedLM",
    "Model",
    "ForSequenceClassification",
    "ForMultipleChoice",
    "ForTokenClassification",
    "ForQuestionAnswering",
)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' SqueezeBertConfig."""
    only_encoder(c)
    sizes = heads_of(c) | axes(c, "SqueezeBertConfig")
    if c.number("embedding_size", default=768, of="SqueezeBertConfig") != sizes["h"]:
        raise UsageError("the configuration contradicts itself: embedding_size is not hidden_size")
    tied = c.flag("tie_word_embeddings", default=True)
    heads = with_pooler(bert_heads("transformer.", tied), "transformer.")
    which = task(c, KNOWN, "ForMaskedLM")
    prefix = "" if which == "Model" else "transformer."
    layer = _Layer(_Inputs.of(c, sizes))
    layers = by_kind(
        ["full"] * c.layers(), lambda b, _: layer.write(b, BOTH_WAYS), f"{prefix}encoder.layers.{{layer}}."
    )
    embedding = embedded(f"{prefix}embeddings.")
    return encoder(c, "squeezebert", embedding, layers, heads[which], sizes, prefix="", tied=tied)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Channels that one output channel of a convolution reads: its input's over its groups."""

    q: int
    k: int
    v: int
    post_attention: int
    intermediate: int
    output: int

    @classmethod
    def of(cls, c: Config, sizes: dict[str, int]) -> _Inputs:
        h, ffn = sizes["h"], sizes["ffn"]
        into = {"output": ffn}
        out_of = {"intermediate": ffn}
        found = {}
        for name, default in GROUPS.items():
            groups = c.number(f"{name}_groups", default=default, of="SqueezeBertConfig")
            c.divides(out_of.get(name, h), groups, f"{name}_groups does not divide its output channels")
            found[name] = c.divides(into.get(name, h), groups, f"{name}_groups does not divide its input channels")
        return cls(**found)


@dataclass(frozen=True, slots=True)
class _Layer:
    inputs: _Inputs

    def write(self, b: Draft, span: Span) -> None:
        i = self.inputs
        for short, name, into in (("q", "query", i.q), ("k", "key", i.k), ("v", "value", i.v)):
            _convolve(b, f"attention.{name}", "x", short, "q", into, "attention")
        attend(b, span)
        _convolve(b, "post_attention.conv1d", "att", "o", "h", i.post_attention, "attention")
        b.add("x", "o", "r")
        b.norm("post_attention.layernorm", "r", "m", "layer")
        _convolve(b, "intermediate.conv1d", "m", "up", "ffn", i.intermediate, "mlp")
        b.op("activation", ("up",), "act", (*b.tokens, "ffn"))
        _convolve(b, "output.conv1d", "act", "y", "h", i.output, "mlp")
        b.add("m", "y", "s")
        b.norm("output.layernorm", "s", "out", "layer")


def _convolve(b: Draft, name: str, source: str, out: str, rows: Axis, into: int, role: str) -> None:
    """A convolution over one position: `rows` output channels, each of which reads `into` channels."""
    weights = [b.tensor(f"{name}.weight", (rows, into, 1), role, matrix=True), b.tensor(f"{name}.bias", (rows,), role)]
    b.op("linear", (source,), out, (*b.tokens, rows), ((2, (*b.tokens, rows, into)),), weights)

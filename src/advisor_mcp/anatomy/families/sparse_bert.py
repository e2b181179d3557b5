"""BERT's kin for long sequences: Longformer's windows, BigBird's blocks, Nystromformer's landmarks, FNet's transforms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import (
    Dense,
    Heads,
    classify,
    encoder,
    only_encoder,
    task,
)
from advisor_mcp.anatomy.families.bert import CAUSAL, CLS, axes, bert_heads, blocks, embedded, reach, roberta_heads
from advisor_mcp.anatomy.inventory import Architecture, Span, Terms
from advisor_mcp.anatomy.parts import RESIDUAL, Draft, attend, by_kind
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("longformer", "big_bird", "nystromformer", "fnet")
NAMES = ("self.query", "self.key", "self.value", "output.dense")
FEED = Matrices("", ("intermediate.dense", "output.dense"))
NORMS = ("attention.output.LayerNorm", "output.LayerNorm")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' LongformerConfig, BigBirdConfig, NystromformerConfig or FNetConfig."""
    known: dict[str, Callable[[Config], Architecture]] = {
        "longformer": _longformer, "big_bird": _big_bird, "nystromformer": _nystromformer, "fnet": _fnet,
    }  # fmt: skip
    return known[c.text("model_type") or "longformer"](c)


@dataclass(frozen=True, slots=True)
class Global:
    """Attention within a window, beside the projections of the tokens that see everything."""

    local: Projected
    prefix: str = "attention.self."

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the attention, and the three matrices that a sequence without such tokens does not use."""
        self.local.write(b, source, span)
        for name in ("query", "key", "value"):
            b.tensor(f"{self.prefix}{name}_global.weight", (self.local.axes[0], "h"), "attention", matrix=True)
            b.tensor(f"{self.prefix}{name}_global.bias", (self.local.axes[0],), "attention")


def _longformer(c: Config) -> Architecture:
    """Every token sees half of its layer's window on each side; what global tokens add depends on the input."""
    only_encoder(c)
    sizes = heads_of(c) | axes(c, "LongformerConfig")
    tied = c.flag("tie_word_embeddings", default=True)
    heads = roberta_heads("longformer.", tied)
    which = task(c, tuple(heads), "ForMaskedLM")
    prefix = "" if which == "Model" else "longformer."
    sides = windows(c, c.layers(), "LongformerConfig")
    spans = {str(window): Span(window=window // 2, both=True) for window in sides}
    layer = Layer(Global(Projected("attention.", NAMES)), FEED, NORMS, "post")
    kinds = [str(window) for window in sides]
    layers = by_kind(kinds, lambda b, kind: layer.write(b, spans[kind]), f"{prefix}encoder.layer.{{layer}}.")
    c.notes.append("attention is counted for tokens with a window alone, without any that see the whole sequence")
    return encoder(
        c, "longformer", embedded(f"{prefix}embeddings."), layers, heads[which], sizes, prefix="", tied=tied,
        spans=list(spans.values()),
    )  # fmt: skip


def windows(c: Config, layers: int, of: str) -> list[int]:
    """The attention window of every layer, from one number or a list."""
    if isinstance(c.data.get("attention_window"), list):
        found = c.numbers("attention_window", length=layers, least=2) or []
    else:
        found = [c.number("attention_window", default=512, of=of, least=2)] * layers
    for window in found:
        if window % 2:
            raise UsageError(f"attention_window in the configuration must be even, not {window}")
    return found


def _big_bird(c: Config) -> Architecture:
    """Block-sparse attention falls back to full attention for short sequences, as which it is counted."""
    kind = c.text("attention_type") or "block_sparse"
    if kind not in ("block_sparse", "original_full"):
        raise CannotAnswer(f"attention_type is {shown(kind)}, which is not described for BigBird")
    sizes = heads_of(c) | axes(c, "BigBirdConfig")
    sizes["positions"] = c.number("max_position_embeddings", default=4096, of="BigBirdConfig")
    tied = c.flag("tie_word_embeddings", default=True)
    heads = _big_bird_heads(tied)
    which = task(c, (*heads, *CAUSAL), "ForMaskedLM")
    prefix = "" if which == "Model" else "bert."
    if kind == "block_sparse":
        c.notes.append(f"attention is counted as full, as the class runs it up to {dense_up_to(c)} tokens")
    layer = Layer(Projected("attention.", NAMES, bias=c.flag("use_bias", default=True)), FEED, NORMS, "post")
    span = reach(c)
    layers = blocks(c, layer, f"{prefix}encoder.layer.{{layer}}.", span)
    chains = heads["ForMaskedLM" if which in CAUSAL else which]
    return encoder(
        c, "big_bird", embedded(f"{prefix}embeddings."), layers, chains, sizes, prefix="", tied=tied, spans=[span]
    )


def dense_up_to(c: Config) -> int:
    """Two global, three neighbouring and twice the random blocks: shorter sequences attend in full."""
    random = c.number("num_random_blocks", default=3, least=0)
    return (5 + 2 * random) * c.number("block_size", default=64)


def _big_bird_heads(tied: bool) -> Heads:
    pooler = (Dense("bert.pooler", pooled=True),)
    masked = CLS.chain("bert.embeddings.word_embeddings.weight", tied)
    two = (Dense("classifier.dense", pooled=True), classify("classifier.out_proj"))
    root = "qa_classifier."
    answers = (
        Dense(f"{root}intermediate.dense", "ffn"),
        Dense(f"{root}output.dense", "h", "ffn", norm=f"{root}output.LayerNorm"),
        classify(f"{root}qa_outputs", pooled=False, out=2),
    )
    return {
        "Model": ((Dense("pooler", pooled=True),),),
        "ForMaskedLM": (pooler, masked),
        "ForPreTraining": ((*pooler, classify("cls.seq_relationship", out=2)), masked),
        "ForSequenceClassification": (pooler, two),
        "ForMultipleChoice": ((*pooler, classify(out=1)),),
        "ForTokenClassification": (pooler, (classify(pooled=False),)),
        "ForQuestionAnswering": (answers,),
    }


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Attention through a few means of queries and keys, and (`kernel`) a convolution of the values along the sequence."""

    approximate: bool
    kernel: bool

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the projections, the attention in full or through landmarks, and the convolution."""
        for short, name in zip("qkv", NAMES[:3], strict=True):
            b.linear(f"attention.{name}", source, short, ("q", "h"), "attention", True)
        if self.approximate:
            self._through_landmarks(b)
        else:
            attend(b, span)
        if self.kernel:
            weight = b.tensor("attention.self.conv.weight", ("qh", 1, "kernel", 1), "attention")
            flops: Terms = ((2, (*b.tokens, "qh", "hd", "kernel")),)
            b.op("convolution", ("v",), "conv", (*b.tokens, "q"), flops, [weight])
        b.linear("attention.output.dense", "att", "o", ("h", "q"), "attention", True)

    def _through_landmarks(self, b: Draft) -> None:
        few = "landmarks"
        products: Terms = (
            (8, (*b.tokens, "qh", "hd", few)),
            (2, (*b.tokens, "qh", few, few)),
            (2, ("b", "qh", "hd", few, few)),
            (48, ("b", "qh", few, few, few)),  # six rounds of four products that invert the landmarks' scores
        )
        b.op("landmark_attention", ("q", "k", "v"), "att", (*b.tokens, "q"), products)


def _nystromformer(c: Config) -> Architecture:
    """As many landmarks as tokens in a segment mean full attention; a conv_kernel_size of null means no convolution."""
    only_encoder(c)
    sizes = heads_of(c) | axes(c, "NystromformerConfig")
    sizes["positions"] = c.number("max_position_embeddings", default=510, of="NystromformerConfig") + 2
    sizes["landmarks"] = c.number("num_landmarks", default=64, of="NystromformerConfig")
    approximate = sizes["landmarks"] != c.number("segment_means_seq_len", default=64, of="NystromformerConfig")
    kernel = c.given("conv_kernel_size") or "conv_kernel_size" not in c.data
    if kernel:
        sizes["kernel"] = c.number("conv_kernel_size", default=65, of="NystromformerConfig")
    tied = c.flag("tie_word_embeddings", default=True)
    heads = _nystromformer_heads(tied)
    which = task(c, tuple(heads), "ForMaskedLM")
    prefix = "" if which == "Model" else "nystromformer."
    layers = blocks(c, Layer(Landmarks(approximate, kernel), FEED, NORMS, "post"), f"{prefix}encoder.layer.{{layer}}.")
    return encoder(
        c, "nystromformer", embedded(f"{prefix}embeddings."), layers, heads[which], sizes, prefix="", tied=tied
    )


def _nystromformer_heads(tied: bool) -> Heads:
    return {
        "Model": (),
        "ForMaskedLM": (CLS.chain("nystromformer.embeddings.word_embeddings.weight", tied),),
        "ForSequenceClassification": ((Dense("classifier.dense", pooled=True), classify("classifier.out_proj")),),
        "ForMultipleChoice": ((Dense("pre_classifier", pooled=True), classify(out=1)),),
        "ForTokenClassification": ((classify(pooled=False),),),
        "ForQuestionAnswering": ((classify("qa_outputs", pooled=False, out=2),),),
    }


class Fourier:
    """Mixing of tokens by a Fourier transform over positions and width, which has no weights and is no matrix product."""

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the transform."""
        b.op("fourier_transform", (source,), "o", RESIDUAL)


def _fnet(c: Config) -> Architecture:
    only_encoder(c)
    sizes = {"h": c.number("hidden_size")} | axes(c, "FNetConfig", types=4)
    tied = c.flag("tie_word_embeddings", default=True)
    heads = with_pooler(bert_heads("fnet.", tied), "fnet.")
    which = task(c, tuple(heads), "ForMaskedLM")
    prefix = "" if which == "Model" else "fnet."
    embedding = replace(embedded(f"{prefix}embeddings."), project=f"{prefix}embeddings.projection")
    layer = Layer(Fourier(), FEED, ("fourier.output.LayerNorm", "output.LayerNorm"), "post")
    layers = blocks(c, layer, f"{prefix}encoder.layer.{{layer}}.")
    return encoder(c, "fnet", embedding, layers, heads[which], sizes, prefix="", tied=tied)


def with_pooler(heads: Heads, root: str) -> Heads:
    """BERT's heads where all of them keep the pooler, also those that do not read it."""
    lone = (Dense(f"{root}pooler.dense", pooled=True),)
    unread = ("ForMaskedLM", "ForTokenClassification", "ForQuestionAnswering")
    return {name: ((lone, *chains) if name in unread else chains) for name, chains in heads.items()}

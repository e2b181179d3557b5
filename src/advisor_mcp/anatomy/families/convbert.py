"""ConvBERT: half of attention's heads give way to convolutions whose kernels every token makes for itself."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.classics import Layer, Matrices
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import Dense, Heads, Vocabulary, classify, encoder, only_encoder, task
from advisor_mcp.anatomy.families.bert import axes, blocks, embedded
from advisor_mcp.anatomy.inventory import Architecture, Axis, Span, Terms
from advisor_mcp.anatomy.parts import Draft, Feed, attend
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("convbert",)
OF = "ConvBertConfig"
SELF = "attention.self."


def describe(c: Config) -> Architecture:
    """A configuration of transformers' ConvBertConfig."""
    only_encoder(c)
    sizes = _axes(c) | axes(c, OF)
    sizes["embed"] = c.number("embedding_size", default=768, of=OF)
    width: Axis = "embed" if sizes["embed"] != sizes["h"] else "h"
    tied = c.flag("tie_word_embeddings", default=True)
    heads = _heads(tied, width)
    which = task(c, tuple(heads), "ForMaskedLM")
    prefix = "" if which == "Model" else "convbert."
    embedding = embedded(f"{prefix}embeddings.", width, "" if width == "h" else f"{prefix}embeddings_project")
    layer = Layer(Mixed(), _feed(c, sizes), ("attention.output.LayerNorm", "output.LayerNorm"), "post")
    layers = blocks(c, layer, f"{prefix}encoder.layer.{{layer}}.")
    return encoder(c, "convbert", embedding, layers, heads[which], sizes, prefix="", tied=tied)


def _axes(c: Config) -> dict[str, int]:
    """The heads that are left are the given ones over head_ratio, at least one; together they are half as wide as the model."""
    h = c.number("hidden_size")
    heads = max(c.number("num_attention_heads") // c.number("head_ratio", default=2, of=OF), 1)
    hd = c.divides(h, 2 * heads, "twice the heads that attend do not divide hidden_size")
    kernel = c.number("conv_kernel_size", default=9, of=OF)
    if kernel % 2 == 0:
        raise UsageError(f"conv_kernel_size in the configuration must be odd, not {kernel}")
    return {"h": h, "qh": heads, "kvh": heads, "hd": hd, "kernel": kernel}


@dataclass(frozen=True, slots=True)
class Mixed:
    """Attention beside a convolution along the sequence, side by side before the output projection."""

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add both and the projection of the two."""
        for short, name in (("q", "query"), ("k", "key"), ("v", "value")):
            b.linear(f"{SELF}{name}", source, short, ("q", "h"), "attention", True)
        attend(b, span)
        self._kernels(b, source)
        b.linear(f"{SELF}conv_out_layer", source, "conv.v", ("q", "h"), "attention", True)
        flops: Terms = ((2, (*b.tokens, "q", "kernel")),)
        b.op("convolution", ("conv.v", "kernels"), "conv", (*b.tokens, "q"), flops)
        b.linear("attention.output.dense", "att", "o", ("h", "h"), "attention", True)

    def _kernels(self, b: Draft, source: str) -> None:
        """A separable convolution of the input, times the queries, gives every head of every token its kernel."""
        name = f"{SELF}key_conv_attn_layer"
        depthwise = b.tensor(f"{name}.depthwise.weight", ("h", 1, "kernel"), "attention")
        b.op("convolution", (source,), "deep", (*b.tokens, "h"), ((2, (*b.tokens, "h", "kernel")),), [depthwise])
        weights = [
            b.tensor(f"{name}.pointwise.weight", ("q", "h", 1), "attention", matrix=True),
            b.tensor(f"{name}.bias", ("q", 1), "attention"),
        ]
        b.op("linear", ("deep",), "conv.k", (*b.tokens, "q"), ((2, (*b.tokens, "h", "q")),), weights)
        b.op("multiply", ("conv.k", "q"), "conv.qk", (*b.tokens, "q"))
        b.linear(f"{SELF}conv_kernel_layer", "conv.qk", "kernels", ("kernels", "q"), "attention", True)


def _feed(c: Config, sizes: dict[str, int]) -> Feed:
    groups = c.number("num_groups", default=1, of=OF)
    sizes["kernels"] = sizes["qh"] * sizes["kernel"]
    if groups == 1:
        return Matrices("", ("intermediate.dense", "output.dense"))
    c.divides(sizes["h"], groups, "num_groups does not divide hidden_size")
    c.divides(sizes["ffn"], groups, "num_groups does not divide intermediate_size")
    return GroupedMatrices(groups, sizes["h"] // groups, sizes["ffn"] // groups)


@dataclass(frozen=True, slots=True)
class GroupedMatrices:
    """The two matrices of the MLP in `groups`, each of which maps its own share of the channels."""

    groups: int
    narrow: int
    wide: int

    def write(self, b: Draft, source: str) -> None:
        """Add the two grouped products and the activation."""
        self._product(b, "intermediate.dense", source, "up", "ffn", (self.narrow, self.wide))
        b.op("activation", ("up",), "act", (*b.tokens, "ffn"))
        self._product(b, "output.dense", "act", "y", "h", (self.wide, self.narrow))

    def _product(self, b: Draft, name: str, source: str, out: str, axis: Axis, shape: tuple[int, int]) -> None:
        weights = [
            b.tensor(f"{name}.weight", (self.groups, *shape), "mlp", matrix=True),
            b.tensor(f"{name}.bias", (axis,), "mlp"),
        ]
        b.op("linear", (source,), out, (*b.tokens, axis), ((2, (*b.tokens, axis, shape[0])),), weights)


def _heads(tied: bool, width: Axis) -> Heads:
    root = "generator_predictions."
    dense = Dense(f"{root}dense", width, role="lm_head", norm=f"{root}LayerNorm", norm_role="lm_head")
    words = "convbert.embeddings.word_embeddings.weight"
    return {
        "Model": (),
        "ForMaskedLM": (
            (dense, Vocabulary(words, tied, "generator_lm_head.weight", ("generator_lm_head.bias",), width)),
        ),
        "ForSequenceClassification": ((Dense("classifier.dense", pooled=True), classify("classifier.out_proj")),),
        "ForMultipleChoice": ((classify(out=1),),),
        "ForTokenClassification": ((classify(pooled=False),),),
        "ForQuestionAnswering": ((classify("qa_outputs", pooled=False),),),
    }

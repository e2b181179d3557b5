"""DeBERTa 2 and 3: BERT's layer with attention over content and relative positions, which all layers share one table of."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, heads_of
from advisor_mcp.anatomy.config import LARGEST_FIELD, Config
from advisor_mcp.anatomy.encoders import Dense, Embedding, Heads, Table, Vocabulary, classify, encoder, task
from advisor_mcp.anatomy.families.bert import CLS, blocks
from advisor_mcp.anatomy.inventory import Architecture, Axis, Block, Span, Terms
from advisor_mcp.anatomy.parts import RESIDUAL, Draft
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("deberta-v2",)
TERMS = ("c2p", "p2c")
SELF = "attention.self."
CONTENT = Projected("attention.", ("self.query_proj", "self.key_proj", "self.value_proj", "output.dense"))


@dataclass(frozen=True, slots=True)
class Disentangled:
    """Attention whose scores add products of content with relative positions (`terms`) to those of content with content.

    The positions are projected by matrices of their own or by those of queries and keys (`shared`), once for all sequences.
    """

    terms: tuple[str, ...]
    shared: bool

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the attention to content and the products with positions."""
        CONTENT.write(b, source, span)
        self._term(b, "c2p", "q", "pos_key_proj", "key_proj")
        self._term(b, "p2c", "k", "pos_query_proj", "query_proj")

    def _term(self, b: Draft, term: str, content: str, own: str, joined: str) -> None:
        used, positions = term in self.terms, f"{term}.positions"
        if self.shared:
            # made whether the term is used or not
            flops: Terms = ((2, ("distances", "h", "h")),)
            weights = [f"{b.prefix}{SELF}{joined}.weight"]
            b.op("linear", ("positions",), positions, ("distances", "h"), flops, weights)
        elif used:
            b.linear(SELF + own, "positions", positions, ("h", "h"), "attention", True, tokens=("distances",))
        if used:
            flops = ((2, (*b.tokens, "qh", "hd", "distances")),)
            b.op("position_scores", (content, positions), term, (*b.tokens, "qh", "distances"), flops)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' DebertaV2Config."""
    given = c.optional("attention_head_size")
    sizes = heads_of(c, head_dim=given) | {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    if sizes["qh"] * sizes["hd"] != sizes["h"]:
        raise UsageError("the configuration contradicts itself: attention_head_size x heads is not hidden_size")
    tied = c.flag("tie_word_embeddings", default=True)
    narrow = c.given("embedding_size") and c.number("embedding_size") != sizes["h"]
    width: Axis = "embed" if narrow else "h"
    if narrow:
        sizes["embed"] = c.number("embedding_size")
    heads = heads_for(c, tied, width)
    which = task(c, tuple(heads), "ForMaskedLM")
    prefix = "" if which == "Model" else "deberta."
    relative = c.flag("relative_attention")
    if relative:
        sizes["distances"] = 2 * _distances(c)
    embedding = embedding_of(c, sizes, f"{prefix}embeddings.", width)
    attention = Disentangled(position_terms(c) if relative else (), relative and c.flag("share_att_key"))
    layer = Layer(
        attention, Matrices("", ("intermediate.dense", "output.dense")), ("attention.output.LayerNorm", "output.LayerNorm"), "post"
    )  # fmt: skip
    layers = [
        *_encoder_parts(c, sizes, f"{prefix}encoder.", relative),
        *blocks(c, layer, f"{prefix}encoder.layer.{{layer}}."),
    ]
    return encoder(c, "deberta-v2", embedding, layers, heads[which], sizes, prefix="", tied=tied)


def _distances(c: Config) -> int:
    """Relative positions on one side: buckets, else max_relative_positions, else the longest sequence."""
    for name in ("position_buckets", "max_relative_positions"):
        found = c.number(name, default=-1, least=-LARGEST_FIELD)
        if found > 0:
            return found
    return c.number("max_position_embeddings", default=512, of="DebertaV2Config")


def position_terms(c: Config) -> tuple[str, ...]:
    """pos_att_type as a list, or as names joined by "|"."""
    given = c.data.get("pos_att_type")
    listed = given.lower().split("|") if isinstance(given, str) else c.entries("pos_att_type") or []
    terms = [term.strip() if isinstance(term, str) else term for term in listed]
    for term in terms:
        if term not in (*TERMS, ""):
            raise CannotAnswer(f"pos_att_type names {shown(term)}, which is not described for DeBERTa 2 and 3")
    return tuple(term for term in TERMS if term in terms)


def embedding_of(c: Config, sizes: dict[str, int], prefix: str, width: Axis, of: str = "DebertaV2Config") -> Embedding:
    """The tables that the configuration asks for, their norm, and a projection where rows are narrower than the model."""
    tables = [Table(f"{prefix}word_embeddings.weight", "vocab", "token_embedding")]
    if c.flag("position_biased_input", default=True):
        sizes["positions"] = c.number("max_position_embeddings", default=512, of=of)
        tables.append(Table(f"{prefix}position_embeddings.weight", "positions"))
    if types := c.number("type_vocab_size", default=0, least=0):
        sizes["types"] = types
        tables.append(Table(f"{prefix}token_type_embeddings.weight", "types"))
    project = "" if width == "h" else f"{prefix}embed_proj"
    return Embedding(tuple(tables), f"{prefix}LayerNorm", width, project, project_bias=False, norm_last=True)


def _encoder_parts(c: Config, sizes: dict[str, int], prefix: str, relative: bool) -> list[Block]:
    """What the encoder has once: the table of relative positions, its norm, and a convolution beside the first layer."""
    b = Draft("embedding", prefix)
    b.value("x", RESIDUAL)
    if relative:
        table = b.tensor("rel_embeddings.weight", ("distances", "h"), "position_embedding")
        b.op("lookup", (), "positions", ("distances", "h"), weights=[table])
    if "layer_norm" in [part.strip() for part in (c.text("norm_rel_ebd") or "none").lower().split("|")]:
        b.norm("LayerNorm", "positions", "positions.n", "layer", axes=("distances" if relative else 1, "h"))
    if kernel := c.number("conv_kernel_size", default=0, least=0):
        sizes["kernel"] = kernel
        sizes["conv_in"] = c.divides(
            sizes["h"], c.number("conv_groups", default=1), "conv_groups does not divide hidden_size"
        )
        weights = [
            b.tensor("conv.conv.weight", ("h", "conv_in", "kernel"), "other"),
            b.tensor("conv.conv.bias", ("h",), "other"),
        ]
        b.op("convolution", ("x",), "conv", RESIDUAL, ((2, (*RESIDUAL, "conv_in", "kernel")),), weights)
        b.norm("conv.LayerNorm", "conv", "conv.n", "layer")
    return [b.block((0,))] if b.tensors else []


def heads_for(c: Config, tied: bool, width: Axis) -> Heads:
    """The heads of the classes, with the older or the newer form of the masked language model's."""
    words = "deberta.embeddings.word_embeddings.weight"
    new = Dense(
        "lm_predictions.lm_head.dense", role="lm_head", norm="lm_predictions.lm_head.LayerNorm", norm_role="lm_head"
    )
    legacy = c.flag("legacy", default=True)
    masked = (
        CLS.chain(words, tied, width)
        if legacy
        else (new, Vocabulary(words, True, "", ("lm_predictions.lm_head.bias",)))
    )
    pooler = Dense("pooler.dense", pooled=True)
    return {
        "Model": (),
        "ForMaskedLM": (masked,),
        "ForSequenceClassification": ((pooler, classify()),),
        "ForMultipleChoice": ((pooler, classify(out=1)),),
        "ForTokenClassification": ((classify(pooled=False),),),
        "ForQuestionAnswering": ((classify("qa_outputs", pooled=False),),),
    }

"""BERT's and RoBERTa's close kin: the same sizes and heads under other names, with norms after the parts or before them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from advisor_mcp.anatomy.classics import Layer, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import Embedding, Heads, Table, encoder, only_encoder, task
from advisor_mcp.anatomy.families.bert import (
    CAUSAL,
    LAYER,
    axes,
    bert_heads,
    blocks,
    embedded,
    reach,
    roberta_heads,
)
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = (
    "camembert",
    "data2vec-text",
    "ibert",
    "ernie",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
    "megatron-bert",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What tells them apart: the class, the encoder's name, the heads' family, the layer, and the norms at the ends.

    `end_norm` follows the last layer; `causal` says whether the class can be set up as a decoder.
    """

    of: str
    root: str
    heads: Callable[[str, bool], Heads] = roberta_heads
    layer: Layer = LAYER
    embedding_norm: bool = True
    end_norm: str = ""
    causal: bool = True
    types: int = 2


def _before(attention: str, feed: str) -> Layer:
    return replace(LAYER, norms=(attention, feed), order="pre")


KINDS = {
    "camembert": Kind("CamembertConfig", "roberta."),
    "data2vec-text": Kind("Data2VecTextConfig", "data2vec_text."),
    "ibert": Kind("IBertConfig", "ibert.", causal=False),
    "ernie": Kind("ErnieConfig", "ernie.", bert_heads),
    "xlm-roberta-xl": Kind(
        "XLMRobertaXLConfig", "roberta.", layer=_before("attention.self_attn_layer_norm", "LayerNorm"),
        embedding_norm=False, end_norm="encoder.LayerNorm", types=1,
    ),
    "roberta-prelayernorm": Kind(
        "RobertaPreLayerNormConfig", "roberta_prelayernorm.",
        layer=_before("attention.LayerNorm", "intermediate.LayerNorm"), end_norm="LayerNorm",
    ),
    "megatron-bert": Kind(
        "MegatronBertConfig", "bert.", bert_heads, _before("attention.ln", "ln"), False, "encoder.ln"
    ),
}  # fmt: skip


def describe(c: Config) -> Architecture:
    """A configuration of one of transformers' classes that `KINDS` names; the head is that of the class in `architectures`."""
    family = c.text("model_type") or "camembert"
    kind = KINDS[family]
    if not kind.causal:
        only_encoder(c)
    if c.flag("quant_mode"):
        raise CannotAnswer("quant_mode is set, and integer arithmetic is not described for this model type")
    tied = c.flag("tie_word_embeddings", default=True)
    heads = kind.heads(kind.root, tied)
    which = task(c, (*heads, *CAUSAL), "ForMaskedLM")
    prefix = "" if which == "Model" else kind.root
    sizes = heads_of(c) | axes(c, kind.of, kind.types)
    embedding = _embedding(c, kind, f"{prefix}embeddings.", sizes)
    span = reach(c)
    layers = blocks(c, kind.layer, f"{prefix}encoder.layer.{{layer}}.", span)
    chains = heads["ForMaskedLM" if which in CAUSAL else which]
    norm = f"{prefix}{kind.end_norm}" if kind.end_norm else ""
    return encoder(c, family, embedding, layers, chains, sizes, prefix="", norm=norm, tied=tied, spans=[span])


def _embedding(c: Config, kind: Kind, prefix: str, sizes: dict[str, int]) -> Embedding:
    """BERT's three tables, and ERNIE's table of tasks where the configuration asks for it."""
    embedding = embedded(prefix)
    if kind.of == "ErnieConfig" and c.flag("use_task_id"):
        sizes["tasks"] = c.number("task_type_vocab_size", default=3, of=kind.of)
        embedding = replace(
            embedding, tables=(*embedding.tables, Table(f"{prefix}task_type_embeddings.weight", "tasks"))
        )
    return embedding if kind.embedding_norm else replace(embedding, norm="")

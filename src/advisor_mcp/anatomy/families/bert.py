"""BERT, RoBERTa and XLM-RoBERTa: an encoder with learned positions, token types, a LayerNorm after each part, biases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import (
    BOTH_WAYS,
    Chain,
    Dense,
    Embedding,
    Heads,
    Table,
    Vocabulary,
    classify,
    encoder,
    task,
)
from advisor_mcp.anatomy.inventory import Architecture, Axis, Block, Span
from advisor_mcp.anatomy.parts import by_kind
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = ("bert", "roberta", "xlm-roberta")
CLASSES = {"bert": "BertConfig", "roberta": "RobertaConfig", "xlm-roberta": "XLMRobertaConfig"}
CAUSAL = ("LMHeadModel", "ForCausalLM")
LAYER = Layer(
    Projected("attention.", ("self.query", "self.key", "self.value", "output.dense")),
    Matrices("", ("intermediate.dense", "output.dense")),
    ("attention.output.LayerNorm", "output.LayerNorm"),
    "post",
)
TABLES = (
    Table("word_embeddings.weight", "vocab", "token_embedding"),
    Table("position_embeddings.weight", "positions"),
    Table("token_type_embeddings.weight", "types"),
)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' BertConfig, RobertaConfig or XLMRobertaConfig.

    The head is that of the class in `architectures`; as a decoder (`is_decoder`) it sees earlier tokens only and has a cache.
    """
    family = c.text("model_type") or "bert"
    sizes = heads_of(c) | axes(c, CLASSES[family])
    tied = c.flag("tie_word_embeddings", default=True)
    heads = bert_heads("bert.", tied) if family == "bert" else roberta_heads("roberta.", tied)
    which = task(c, (*heads, *CAUSAL), "ForMaskedLM")
    prefix = "" if which == "Model" else "bert." if family == "bert" else "roberta."
    span = reach(c)
    chains = heads["ForMaskedLM" if which in CAUSAL else which]
    layers = blocks(c, LAYER, f"{prefix}encoder.layer.{{layer}}.", span)
    embedding = embedded(f"{prefix}embeddings.")
    return encoder(c, family, embedding, layers, chains, sizes, prefix="", tied=tied, spans=[span])


def axes(c: Config, of: str, types: int = 2) -> dict[str, int]:
    """The axes of the MLP and of the three tables."""
    return {
        "ffn": c.number("intermediate_size"),
        "vocab": c.number("vocab_size"),
        "positions": c.number("max_position_embeddings", default=512, of=of),
        "types": c.number("type_vocab_size", default=types, of=of),
    }


def embedded(prefix: str, width: Axis = "h", project: str = "") -> Embedding:
    """The three tables, their norm, and a projection where rows are narrower than the model."""
    tables = tuple(Table(prefix + table.name, table.rows, table.role) for table in TABLES)
    return Embedding(tables, f"{prefix}LayerNorm", width, project)


def blocks(
    c: Config, layer: Layer, prefix: str, span: Span = BOTH_WAYS, layers: Sequence[str] = ("num_hidden_layers",)
) -> list[Block]:
    """Equal layers of an encoder, as many as the first of the names `layers` says."""
    return by_kind(["full"] * c.layers(*layers), lambda b, _: layer.write(b, span), prefix)


def reach(c: Config) -> Span:
    """What a token sees: every position, or as a decoder (`is_decoder`) the earlier ones."""
    if c.flag("add_cross_attention"):
        raise CannotAnswer("add_cross_attention is set, and this model type is described without cross-attention")
    return Span() if c.flag("is_decoder") else BOTH_WAYS


@dataclass(frozen=True, slots=True)
class MaskedLanguageModel:
    """What BERT's descendants call the parts of their head: a matrix, a norm, the product and its bias."""

    dense: str
    norm: str
    bias: str
    decoder: str

    def chain(self, tied_to: str, tied: bool, inner: Axis = "h") -> Chain:
        """The parts in turn; an untied decoder has a bias of its own beside the head's."""
        biases = (self.bias,) if tied else (self.bias, f"{self.decoder}.bias")
        return (
            Dense(self.dense, inner, role="lm_head", norm=self.norm, norm_role="lm_head"),
            Vocabulary(tied_to, tied, f"{self.decoder}.weight", biases, inner),
        )


CLS = MaskedLanguageModel(
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.predictions.bias",
    "cls.predictions.decoder",
)
LM_HEAD = MaskedLanguageModel("lm_head.dense", "lm_head.layer_norm", "lm_head.bias", "lm_head.decoder")


def bert_heads(root: str, tied: bool) -> Heads:
    """The heads of BERT's classes on top of an encoder that they call `root`."""
    masked = CLS.chain(f"{root}embeddings.word_embeddings.weight", tied)
    pooler, next_sentence = Dense(f"{root}pooler.dense", pooled=True), classify("cls.seq_relationship", out=2)
    return {
        "Model": ((Dense("pooler.dense", pooled=True),),),
        "ForMaskedLM": (masked,),
        "ForPreTraining": ((pooler, next_sentence), masked),
        "ForNextSentencePrediction": ((pooler, next_sentence),),
        "ForSequenceClassification": ((pooler, classify()),),
        "ForMultipleChoice": ((pooler, classify(out=1)),),
        "ForTokenClassification": ((classify(pooled=False),),),
        "ForQuestionAnswering": ((classify("qa_outputs", pooled=False),),),
    }


def roberta_heads(root: str, tied: bool) -> Heads:
    """The heads of RoBERTa's classes on top of an encoder that they call `root`."""
    dense = Dense("classifier.dense", pooled=True)
    return {
        "Model": ((Dense("pooler.dense", pooled=True),),),
        "ForMaskedLM": (LM_HEAD.chain(f"{root}embeddings.word_embeddings.weight", tied),),
        "ForSequenceClassification": ((dense, classify("classifier.out_proj")),),
        "ForMultipleChoice": ((Dense(f"{root}pooler.dense", pooled=True), classify(out=1)),),
        "ForTokenClassification": ((classify(pooled=False),),),
        "ForQuestionAnswering": ((classify("qa_outputs", pooled=False),),),
    }

"""ALBERT: one layer (or one per group) whose weights every depth shares, behind narrow embeddings."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import BOTH_WAYS, Dense, Heads, classify, encoder, task
from advisor_mcp.anatomy.families.bert import MaskedLanguageModel, axes, embedded
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.parts import RESIDUAL, Draft
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("albert",)
PREDICTIONS = MaskedLanguageModel(
    "predictions.dense", "predictions.LayerNorm", "predictions.bias", "predictions.decoder"
)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' AlbertConfig."""
    sizes = heads_of(c) | axes(c, "AlbertConfig")
    sizes["embed"] = c.number("embedding_size", default=128, of="AlbertConfig")
    tied = c.flag("tie_word_embeddings", default=True)
    heads = _heads(tied)
    which = task(c, tuple(heads), "ForMaskedLM")
    prefix = "" if which == "Model" else "albert."
    embedding = embedded(f"{prefix}embeddings.", "embed", f"{prefix}encoder.embedding_hidden_mapping_in")
    layers = _shared(c, f"{prefix}encoder.albert_layer_groups.{{layer}}.albert_layers.")
    return encoder(c, "albert", embedding, layers, heads[which], sizes, prefix="", tied=tied)


def _shared(c: Config, prefix: str) -> list[Block]:
    """The first use of every group, which holds its weights, and the other depths, which only compute."""
    layers, groups = c.layers(), c.number("num_hidden_groups", default=1, of="AlbertConfig")
    if groups > layers:
        raise UsageError(
            f"the configuration contradicts itself: num_hidden_groups {groups} exceeds its {layers} layers"
        )
    inner = c.layers("inner_group_num") if c.given("inner_group_num") else 1
    first = Draft("first-use")
    first.value("x", RESIDUAL)
    for index in range(inner):
        _layer(f"{prefix}{index}.").write(first, BOTH_WAYS)
    again = Draft("reuse", ops=first.ops, values=first.values)
    held = first.block(tuple(range(groups)))
    return [held, again.block(tuple(range(groups, layers)))] if layers > groups else [held]


def _layer(prefix: str) -> Layer:
    names = ("query", "key", "value", "dense")
    return Layer(
        Projected(f"{prefix}attention.", names),
        Matrices(prefix, ("ffn", "ffn_output")),
        (f"{prefix}attention.LayerNorm", f"{prefix}full_layer_layer_norm"),
        "post",
    )


def _heads(tied: bool) -> Heads:
    masked = PREDICTIONS.chain("albert.embeddings.word_embeddings.weight", tied, "embed")
    pooler = Dense("albert.pooler", pooled=True)
    return {
        "Model": ((Dense("pooler", pooled=True),),),
        "ForMaskedLM": (masked,),
        "ForPreTraining": ((pooler, classify("sop_classifier.classifier")), masked),
        "ForSequenceClassification": ((pooler, classify()),),
        "ForMultipleChoice": ((pooler, classify(out=1)),),
        "ForTokenClassification": ((classify(pooled=False),),),
        "ForQuestionAnswering": ((classify("qa_outputs", pooled=False),),),
    }

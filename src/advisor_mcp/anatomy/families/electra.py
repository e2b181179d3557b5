"""ELECTRA: BERT's encoder behind embeddings that may be narrower, and the heads of its generator or its discriminator."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import Dense, Heads, Vocabulary, classify, encoder, only_encoder, task
from advisor_mcp.anatomy.families.bert import LAYER, axes, blocks, embedded
from advisor_mcp.anatomy.inventory import Architecture, Axis

MODEL_TYPES = ("electra",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' ElectraConfig."""
    only_encoder(c)
    sizes = heads_of(c) | axes(c, "ElectraConfig")
    sizes["embed"] = c.number("embedding_size", default=128, of="ElectraConfig")
    tied = c.flag("tie_word_embeddings", default=True)
    narrow = sizes["embed"] != sizes["h"]
    heads = _heads(tied, "embed" if narrow else "h")
    which = task(c, tuple(heads), "ForMaskedLM")
    prefix = "" if which == "Model" else "electra."
    embedding = embedded(
        f"{prefix}embeddings.", "embed" if narrow else "h", f"{prefix}embeddings_project" if narrow else ""
    )
    layers = blocks(c, LAYER, f"{prefix}encoder.layer.{{layer}}.")
    return encoder(c, "electra", embedding, layers, heads[which], sizes, prefix="", tied=tied)


def _heads(tied: bool, inner: Axis) -> Heads:
    tied_to, generator = "electra.embeddings.word_embeddings.weight", "generator_predictions."
    dense = Dense(f"{generator}dense", inner, role="lm_head", norm=f"{generator}LayerNorm", norm_role="lm_head")
    masked = Vocabulary(tied_to, tied, "generator_lm_head.weight", ("generator_lm_head.bias",), inner)
    discriminator = "discriminator_predictions."
    return {
        "Model": (),
        "ForMaskedLM": ((dense, masked),),
        "ForPreTraining": (
            (Dense(f"{discriminator}dense"), classify(f"{discriminator}dense_prediction", False, out=1)),
        ),
        "ForSequenceClassification": ((Dense("classifier.dense", pooled=True), classify("classifier.out_proj")),),
        "ForTokenClassification": ((classify(pooled=False),),),
        "ForQuestionAnswering": ((classify("qa_outputs", pooled=False),),),
    }

"""DistilBERT: BERT's encoder at half the depth, without token types and pooler."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import BOTH_WAYS, Dense, Embedding, Heads, Table, Vocabulary, classify, encoder, task
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import by_kind

MODEL_TYPES = ("distilbert",)
LAYER = Layer(
    Projected("attention.", ("q_lin", "k_lin", "v_lin", "out_lin")),
    Matrices("ffn.", ("lin1", "lin2")),
    ("sa_layer_norm", "output_layer_norm"),
    "post",
)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' DistilBertConfig; sinusoidal positions are a table like learned ones."""
    sizes = heads_of(c, ("hidden_size", "dim"), ("num_attention_heads", "n_heads"))
    sizes |= {
        "ffn": c.number("hidden_dim"),
        "vocab": c.number("vocab_size"),
        "positions": c.number("max_position_embeddings", default=512, of="DistilBertConfig"),
    }
    tied = c.flag("tie_word_embeddings", default=True)
    heads = _heads(tied)
    which = task(c, tuple(heads), "ForMaskedLM")
    prefix = "" if which == "Model" else "distilbert."
    root = f"{prefix}embeddings."
    words = Table(f"{root}word_embeddings.weight", "vocab", "token_embedding")
    embedding = Embedding((words, Table(f"{root}position_embeddings.weight", "positions")), f"{root}LayerNorm")
    layers = by_kind(
        ["full"] * c.layers("num_hidden_layers", "n_layers"),
        lambda b, _: LAYER.write(b, BOTH_WAYS),
        f"{prefix}transformer.layer.{{layer}}.",
    )
    return encoder(c, "distilbert", embedding, layers, heads[which], sizes, prefix="", tied=tied)


def _heads(tied: bool) -> Heads:
    tied_to = "distilbert.embeddings.word_embeddings.weight"
    masked = Vocabulary(tied_to, tied, "vocab_projector.weight", ("vocab_projector.bias",), bias_role="other")
    before = Dense("pre_classifier", pooled=True)
    return {
        "Model": (),
        "ForMaskedLM": ((Dense("vocab_transform", norm="vocab_layer_norm"), masked),),
        "ForSequenceClassification": ((before, classify()),),
        "ForMultipleChoice": ((before, classify(out=1)),),
        "ForTokenClassification": ((classify(pooled=False),),),
        "ForQuestionAnswering": ((classify("qa_outputs", pooled=False),),),
    }

"""RoFormer: BERT's encoder with rotary positions, whose sines and cosines the class keeps as a table."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import Dense, Embedding, Heads, Table, classify, encoder, task
from advisor_mcp.anatomy.families.bert import CAUSAL, CLS, axes, blocks, reach
from advisor_mcp.anatomy.inventory import Architecture, Axis, Block
from advisor_mcp.anatomy.parts import Draft

MODEL_TYPES = ("roformer",)
LAYER = Layer(
    Projected("attention.", ("self.query", "self.key", "self.value", "output.dense"), rope=True),
    Matrices("", ("intermediate.dense", "output.dense")),
    ("attention.output.LayerNorm", "output.LayerNorm"),
    "post",
)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' RoFormerConfig; an absent embedding_size is hidden_size."""
    sizes = heads_of(c) | axes(c, "RoFormerConfig")
    sizes["positions"] = c.number("max_position_embeddings", default=1536, of="RoFormerConfig")
    width: Axis = "h"
    if c.given("embedding_size") and c.number("embedding_size") != sizes["h"]:
        width, sizes["embed"] = "embed", c.number("embedding_size")
    tied = c.flag("tie_word_embeddings", default=True)
    heads = _heads(tied, width)
    which = task(c, (*heads, *CAUSAL), "ForMaskedLM")
    prefix = "" if which == "Model" else "roformer."
    span = reach(c)
    layers = [_positions(f"{prefix}encoder."), *blocks(c, LAYER, f"{prefix}encoder.layer.{{layer}}.", span)]
    chains = heads["ForMaskedLM" if which in CAUSAL else which]
    return encoder(c, "roformer", _embedding(prefix, width), layers, chains, sizes, prefix="", tied=tied, spans=[span])


def _embedding(prefix: str, width: Axis) -> Embedding:
    root = f"{prefix}embeddings."
    words = Table(f"{root}word_embeddings.weight", "vocab", "token_embedding")
    types = Table(f"{root}token_type_embeddings.weight", "types")
    project = "" if width == "h" else f"{prefix}embeddings_project"
    return Embedding((words, types), f"{root}LayerNorm", width, project)


def _positions(prefix: str) -> Block:
    b = Draft("embedding", prefix)
    table = b.tensor("embed_positions.weight", ("positions", "hd"), "position_embedding")
    b.op("lookup", (), "angles", ("s", "hd"), weights=[table])
    return b.block((0,))


def _heads(tied: bool, width: Axis) -> Heads:
    return {
        "Model": (),
        "ForMaskedLM": (CLS.chain("roformer.embeddings.word_embeddings.weight", tied, width),),
        "ForSequenceClassification": ((Dense("classifier.dense", pooled=True), classify("classifier.out_proj")),),
        "ForMultipleChoice": ((classify(out=1),),),
        "ForTokenClassification": ((classify(pooled=False),),),
        "ForQuestionAnswering": ((classify("qa_outputs", pooled=False, out=2),),),
    }

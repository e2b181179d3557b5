"""RemBERT: BERT's encoder behind narrow embeddings, and a wide head that shares nothing with them."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import Dense, Heads, Vocabulary, classify, encoder, task
from advisor_mcp.anatomy.families.bert import CAUSAL, LAYER, axes, blocks, embedded, reach
from advisor_mcp.anatomy.inventory import Architecture

MODEL_TYPES = ("rembert",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' RemBertConfig; the class ties nothing, whatever tie_word_embeddings says."""
    sizes = heads_of(c) | axes(c, "RemBertConfig")
    sizes["embed"] = c.number("input_embedding_size", default=256, of="RemBertConfig")
    heads = _heads()
    which = task(c, (*heads, *CAUSAL), "ForMaskedLM")
    name = "ForMaskedLM" if which in CAUSAL else which
    if name == "ForMaskedLM":
        sizes["output"] = c.number("output_embedding_size", default=1664, of="RemBertConfig")
    prefix, span = "" if which == "Model" else "rembert.", reach(c)
    embedding = embedded(f"{prefix}embeddings.", "embed", f"{prefix}encoder.embedding_hidden_mapping_in")
    layers = blocks(c, LAYER, f"{prefix}encoder.layer.{{layer}}.", span)
    return encoder(c, "rembert", embedding, layers, heads[name], sizes, prefix="", tied=False, spans=[span])


def _heads() -> Heads:
    root = "cls.predictions."
    dense = Dense(f"{root}dense", "output", role="lm_head", norm=f"{root}LayerNorm", norm_role="lm_head")
    words = Vocabulary("", False, f"{root}decoder.weight", (f"{root}decoder.bias",), "output")
    pooler = Dense("rembert.pooler.dense", pooled=True)
    return {
        "Model": ((Dense("pooler.dense", pooled=True),),),
        "ForMaskedLM": ((dense, words),),
        "ForSequenceClassification": ((pooler, classify()),),
        "ForMultipleChoice": ((pooler, classify(out=1)),),
        "ForTokenClassification": ((classify(pooled=False),),),
        "ForQuestionAnswering": ((classify("qa_outputs", pooled=False),),),
    }

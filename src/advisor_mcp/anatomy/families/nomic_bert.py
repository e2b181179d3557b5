"""Nomic's BERT (nomic-embed-text 1 and 1.5): rotary positions, gated MLPs without biases, a LayerNorm after each part."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import Dense, Embedding, Heads, Table, classify, encoder, task
from advisor_mcp.anatomy.families.bert import MaskedLanguageModel, blocks
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = ("nomic_bert",)
BIASES = ("qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias")
MASKED = MaskedLanguageModel(
    "cls.predictions.transform.dense",
    "cls.predictions.transform.layer_norm",
    "cls.predictions.bias",
    "cls.predictions.decoder",
)
LAYER = Layer(
    Projected("attn.", ("", "", "", "out_proj"), "Wqkv", bias=False, o_bias=False, rope=True),
    Matrices("mlp.", ("fc11", "fc2"), bias=False, gate="fc12"),
    ("norm1", "norm2"),
    "post",
)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' NomicBertConfig, or the repository's own with GPT-2's names for the sizes."""
    _only_known(c)
    sizes = heads_of(c, ("hidden_size", "n_embd"), ("num_attention_heads", "n_head"), head_dim=c.optional("head_dim"))
    sizes |= {
        "ffn": c.number("intermediate_size", "n_inner"),
        "vocab": c.number("vocab_size"),
        "types": c.number("type_vocab_size", default=2, of="NomicBertConfig"),
    }
    tied = c.flag("tie_word_embeddings", default=True)
    heads = _heads(tied)
    which = task(c, tuple(heads), "ForMaskedLM")
    prefix = "" if which == "Model" else "nomic_bert."
    words = Table(f"{prefix}embeddings.word_embeddings.weight", "vocab", "token_embedding")
    types = Table(f"{prefix}embeddings.token_type_embeddings.weight", "types")
    layers = blocks(c, LAYER, f"{prefix}encoder.layers.{{layer}}.", layers=("num_hidden_layers", "n_layer"))
    embedding = Embedding((words, types), f"{prefix}emb_ln")
    return encoder(c, "nomic_bert", embedding, layers, heads[which], sizes, prefix="", tied=tied)


def _only_known(c: Config) -> None:
    for name in (*BIASES, "prenorm", "use_rms_norm"):
        if c.flag(name):
            raise CannotAnswer(f"{name} is set, which is not described for this model type")
    if c.number("num_experts", default=0, least=0) > 1 and c.number("moe_every_n_layers", default=1, least=0):
        raise CannotAnswer("num_experts is set, and this model type is described without experts")


def _heads(tied: bool) -> Heads:
    pooler = Dense("nomic_bert.pooler.dense", pooled=True)
    return {
        "Model": (),
        "ForMaskedLM": (MASKED.chain("nomic_bert.embeddings.word_embeddings.weight", tied),),
        "ForSequenceClassification": ((pooler, classify()),),
        "ForTokenClassification": ((classify(pooled=False),),),
    }

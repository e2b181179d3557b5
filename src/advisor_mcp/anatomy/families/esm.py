"""ESM-1b and ESM-2: BERT's encoder over amino acids, with norms before the parts and learned or rotary positions."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Projected, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import Embedding, Heads, Table, Vocabulary, encoder, only_encoder, task
from advisor_mcp.anatomy.families.bert import LAYER, LM_HEAD, blocks, roberta_heads
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.errors import CannotAnswer, shown

MODEL_TYPES = ("esm",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' EsmConfig; the folding model (ESMFold) is refused."""
    only_encoder(c)
    if c.flag("is_folding_model"):
        raise CannotAnswer("is_folding_model is set, and ESMFold's trunk and structure module are not described")
    rotary = _rotary(c)
    sizes = heads_of(c) | {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    if not rotary:
        sizes["positions"] = c.number("max_position_embeddings", default=1026, of="EsmConfig")
    tied = c.flag("tie_word_embeddings", default=True)
    heads = _heads(tied)
    which = task(c, tuple(heads), "ForMaskedLM")
    prefix = "" if which == "Model" else "esm."
    sizes["maps"] = c.layers() * sizes["qh"]
    layers = [_contacts(prefix), *blocks(c, _layer(rotary), f"{prefix}encoder.layer.{{layer}}.")]
    return encoder(
        c, "esm", _embedding(c, f"{prefix}embeddings.", rotary), layers, heads[which], sizes, prefix="",
        norm=f"{prefix}encoder.emb_layer_norm_after", tied=tied,
    )  # fmt: skip


def _rotary(c: Config) -> bool:
    kind = c.text("position_embedding_type") or "absolute"
    if kind not in ("absolute", "rotary"):
        raise CannotAnswer(f"position_embedding_type is {shown(kind)}, which is not described for ESM")
    return kind == "rotary"


def _layer(rotary: bool) -> Layer:
    attention = Projected("attention.", ("self.query", "self.key", "self.value", "output.dense"), rope=rotary)
    return Layer(attention, LAYER.feed, ("attention.LayerNorm", "LayerNorm"))


def _embedding(c: Config, prefix: str, rotary: bool) -> Embedding:
    words = Table(f"{prefix}word_embeddings.weight", "vocab", "token_embedding")
    tables = (words,) if rotary else (words, Table(f"{prefix}position_embeddings.weight", "positions"))
    return Embedding(tables, f"{prefix}layer_norm" if c.flag("emb_layer_norm_before") else "")


def _contacts(prefix: str) -> Block:
    """The regression from all attention maps to contacts between residues, which a forward pass does not run."""
    b = Draft("embedding", f"{prefix}contact_head.")
    b.tensor("regression.weight", (1, "maps"), "other", matrix=True)
    b.tensor("regression.bias", (1,), "other")
    return b.block((0,))


def _heads(tied: bool) -> Heads:
    heads = roberta_heads("esm.", tied)
    dense, _ = LM_HEAD.chain("", tied)
    words = Vocabulary("esm.embeddings.word_embeddings.weight", tied, "lm_head.decoder.weight", ("lm_head.bias",))
    kept = ("Model", "ForSequenceClassification", "ForTokenClassification")
    return {name: heads[name] for name in kept} | {"ForMaskedLM": ((dense, words),)}

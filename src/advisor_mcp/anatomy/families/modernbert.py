"""ModernBERT: rotary positions, gated MLPs, LayerNorm without bias before each part, full and local attention in turn."""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import BOTH_WAYS, Dense, Embedding, Heads, Table, Vocabulary, classify, encoder, task
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import Draft, Norm, by_kind

MODEL_TYPES = ("modernbert",)
LAYER_KINDS = {"full_attention": "full", "sliding_attention": "sliding"}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' ModernBertConfig; local layers see half of `local_attention` on each side."""
    sizes = heads_of(c) | {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    norm: Norm = "layer" if c.flag("norm_bias") else "layer_no_bias"
    tied = c.flag("tie_word_embeddings", default=True)
    heads = _heads(c, norm, tied)
    which = task(c, tuple(heads), "ForMaskedLM")
    prefix = "" if which == "Model" else "model."
    kinds = _kinds(c)
    reach = c.number("local_attention", default=128, of="ModernBertConfig") // 2
    spans = {"full": BOTH_WAYS, "sliding": Span(window=reach, both=True)}
    bias, mlp_bias = c.flag("attention_bias"), c.flag("mlp_bias")
    attention = Projected("attn.", ("", "", "", "Wo"), "Wqkv", bias, bias, rope=True)
    layer = Layer(
        attention, Matrices(names=("Wi", "Wo"), bias=mlp_bias, gated=True), ("attn_norm", "mlp_norm"), norm=norm
    )

    def write(b: Draft, kind: str) -> None:
        layer.write(b, spans[kind.split("-")[-1]], bare=kind.startswith("first"))

    root = f"{prefix}embeddings."
    words = Table(f"{root}tok_embeddings.weight", "vocab", "token_embedding")
    layers = by_kind([f"first-{kinds[0]}", *kinds[1:]], write, f"{prefix}layers.{{layer}}.")
    return encoder(
        c, "modernbert", Embedding((words,), f"{root}norm", kind=norm), layers, heads[which], sizes, prefix="",
        norm=f"{prefix}final_norm", kind=norm, tied=tied, spans=[spans[kind] for kind in dict.fromkeys(kinds)],
    )  # fmt: skip


def _kinds(c: Config) -> list[str]:
    layers = c.layers()
    listed = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    every = c.number("global_attn_every_n_layers", default=3)
    return listed or ["sliding" if layer % every else "full" for layer in range(layers)]


def _heads(c: Config, norm: Norm, tied: bool) -> Heads:
    dense = Dense("head.dense", bias=c.flag("classifier_bias"), norm="head.norm", kind=norm)
    first = replace(dense, pooled=True)
    biases = ("decoder.bias",) if c.flag("decoder_bias", default=True) else ()
    words = Vocabulary("model.embeddings.tok_embeddings.weight", tied, "decoder.weight", biases, bias_role="other")
    tokens = classify(pooled=False)
    return {
        "Model": (),
        "ForMaskedLM": ((dense, words),),
        "ForSequenceClassification": ((first, classify()),),
        "ForMultipleChoice": ((first, classify(out=1)),),
        "ForTokenClassification": ((dense, tokens),),
        "ForQuestionAnswering": ((dense, tokens),),
    }

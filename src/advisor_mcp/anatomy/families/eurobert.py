"""EuroBERT and UltraBERT: Llama's layer as an encoder; UltraBERT's layers see the whole sequence or a window around a token."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import BOTH_WAYS, Dense, Embedding, Heads, Table, Vocabulary, classify, encoder, task
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import by_kind
from advisor_mcp.errors import UsageError, shown

MODEL_TYPES = ("eurobert", "ultrabert")
LAYER_KINDS = {"full_attention": "full", "sliding_attention": "sliding"}
WORDS = "model.embed_tokens.weight"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' EuroBertConfig or UltrabertConfig; `sliding_window` is how far a token sees either way."""
    family = c.text("model_type") or "eurobert"
    sizes = heads_of(c, kv_heads=c.optional("num_key_value_heads"), head_dim=c.optional("head_dim"))
    sizes |= {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    tied = c.flag("tie_word_embeddings")
    heads = _eurobert(c, tied) if family == "eurobert" else _ultrabert(tied)
    which = task(c, tuple(heads), "ForMaskedLM")
    if family == "ultrabert" and which == "ForMaskedLM":
        sizes["head"] = c.number("prediction_head_size", default=768, of="UltrabertConfig")
    prefix = "" if which == "Model" else "model."
    kinds = ["full"] * c.layers() if family == "eurobert" else _kinds(c)
    spans = {"full": BOTH_WAYS, "sliding": Span(window=_radius(c), both=True)}
    layer = _layer(c)
    layers = by_kind(kinds, lambda b, kind: layer.write(b, spans[kind]), f"{prefix}layers.{{layer}}.")
    words = Embedding((Table(f"{prefix}embed_tokens.weight", "vocab", "token_embedding"),))
    return encoder(
        c, family, words, layers, heads[which], sizes, prefix="", norm=f"{prefix}norm", kind="rms", tied=tied,
        spans=[spans[kind] for kind in dict.fromkeys(kinds)],
    )  # fmt: skip


def _layer(c: Config) -> Layer:
    bias, mlp_bias = c.flag("attention_bias"), c.flag("mlp_bias")
    return Layer(
        Projected(bias=bias, o_bias=bias, rope=True),
        Matrices(names=("up_proj", "down_proj"), bias=mlp_bias, gate="gate_proj"),
        ("input_layernorm", "post_attention_layernorm"),
        norm="rms",
    )


def _kinds(c: Config) -> list[str]:
    """Layer kinds: listed, else from the older list of windows (0 or null: none), else two local layers before each full one."""
    layers = c.layers()
    if listed := c.layer_kinds("layer_types", layers, LAYER_KINDS):
        return listed
    if (windows := c.entries("attention_windows", length=layers)) is not None:
        return ["sliding" if window else "full" for window in windows]
    return ["sliding" if (layer + 1) % 3 else "full" for layer in range(layers)]


def _radius(c: Config) -> int:
    for window in c.entries("attention_windows") or []:
        if not window:
            continue
        if isinstance(window, bool) or not isinstance(window, int) or window < 0:
            raise UsageError(f"attention_windows in the configuration must hold whole numbers, not {shown(window)}")
        return window
    return c.number("sliding_window", default=128)


def _eurobert(c: Config, tied: bool) -> Heads:
    pooled = (c.text("classifier_pooling") or "late") != "late"
    biases = ("lm_head.bias",) if c.flag("mlp_bias") else ()
    return {
        "Model": (),
        "ForMaskedLM": ((Vocabulary(WORDS, tied, "lm_head.weight", biases),),),
        "ForSequenceClassification": ((Dense("dense", pooled=pooled), classify(pooled=pooled)),),
        "ForTokenClassification": ((classify(pooled=False),),),
    }


def _ultrabert(tied: bool) -> Heads:
    first = Dense("head.linear1", "head", bias=False, role="lm_head")
    second = Dense("head.linear2", into="head", bias=False, role="lm_head")
    return {
        "Model": (),
        "ForMaskedLM": ((first, second, Vocabulary(WORDS, tied, "head.decoder.weight")),),
        "ForSequenceClassification": ((classify(),),),
        "ForTokenClassification": ((classify(pooled=False),),),
        "ForQuestionAnswering": ((classify("qa_outputs", pooled=False),),),
    }

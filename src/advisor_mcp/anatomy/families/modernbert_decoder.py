"""ModernBERT's decoder: causal attention over everything in every third layer and a window in the others, LayerNorm, GeGLU."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block, Span, Terms
from advisor_mcp.anatomy.parts import GROUPED_DERIVED, RESIDUAL, TOKENS, Attention, Draft, Feed, Norm, assemble, by_kind
from advisor_mcp.anatomy.sparse import Joined
from advisor_mcp.anatomy.variants import LAYER_KINDS, Heads, Order
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = ("modernbert-decoder",)
OF = "ModernBertDecoderConfig"
EMBEDDING = "model.embeddings.tok_embeddings.weight"
DERIVED: dict[str, Terms] = GROUPED_DERIVED | {"gate_up": ((2, ("ffn",)),)}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' ModernBertDecoderConfig (5.23.0); a window is half of `local_attention`."""
    h, heads = c.number("hidden_size"), c.number("num_attention_heads", default=12, of=OF)
    width = c.divides(h, heads, "the heads do not divide hidden_size")
    sizes = {"h": h, "qh": heads, "kvh": heads, "hd": width, "vocab": c.number("vocab_size")}
    sizes["ffn"] = c.number("intermediate_size", default=1152, of=OF)
    norm: Norm = "layer" if c.flag("norm_bias") else "layer_no_bias"
    kinds, bias = _kinds(c), c.flag("attention_bias")
    spans = {"full": Span(), "sliding": Span(window=_window(c) if "sliding" in kinds else None)}
    attention = Heads(bias, bias, bias, names=("q_proj", "k_proj", "v_proj", "Wo"), prefix="attn.")
    feed = Joined("Wi", "Wo", c.flag("mlp_bias"))

    def write(b: Draft, kind: str) -> None:
        _layer(b, attention, feed, spans[kind.split("-")[-1]], norm, first=kind.startswith("first"))

    tied = c.flag("tie_word_embeddings", default=True)
    layers = by_kind([f"first-{kinds[0]}", *kinds[1:]], write)
    blocks = [_embedding(norm), *layers, _head(c, norm, tied)]
    used = [spans[kind] for kind in dict.fromkeys(kinds)]
    return assemble(c, "modernbert-decoder", blocks, sizes, DERIVED, tied, used)


def _kinds(c: Config) -> list[str]:
    layers, every = c.layers(), c.number("global_attn_every_n_layers", default=3)
    listed = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    return listed or ["sliding" if index % every else "full" for index in range(layers)]


def _window(c: Config) -> int:
    local = c.number("local_attention", default=128, of=OF, least=0)
    if ("local_attention" in c.data and c.data["local_attention"] is None) or local < 2:
        raise CannotAnswer("local_attention names no window, but some layers see one", needs=["local_attention"])
    return local // 2


def _layer(b: Draft, attention: Attention, feed: Feed, span: Span, norm: Norm, first: bool) -> None:
    """Pre-norm; the first layer reads the embedding's norm."""
    Order("" if first else "attn_norm", "", "mlp_norm", kind=norm).write(b, attention, feed, span)


def _embedding(norm: Norm) -> Block:
    b = Draft("embedding")
    b.value("ids", TOKENS, "int")
    b.op("lookup", ("ids",), "e", RESIDUAL, weights=[b.tensor(EMBEDDING, ("vocab", "h"), "token_embedding")])
    b.norm("model.embeddings.norm", "e", "x", norm)
    return b.block((0,))


def _head(c: Config, norm: Norm, tied: bool) -> Block:
    """The last norm, a product with an activation and a norm, and the vocabulary."""
    b = Draft("head")
    b.value("x", RESIDUAL)
    b.norm("model.final_norm", "x", "xn", norm)
    b.linear("lm_head.dense", "xn", "d", ("h", "h"), "lm_head", c.flag("classifier_bias"))
    b.op("activation", ("d",), "da", RESIDUAL)
    b.norm("lm_head.norm", "da", "dn", norm)
    bias = c.flag("decoder_bias", default=True)
    if not tied:
        b.linear("decoder", "dn", "logits", ("vocab", "h"), "lm_head", bias)
        return b.block((0,))
    weights = [EMBEDDING, b.tensor("decoder.bias", ("vocab",), "lm_head")] if bias else [EMBEDDING]
    b.op("linear", ("dn",), "logits", (*TOKENS, "vocab"), ((2, (*TOKENS, "h", "vocab")),), weights)
    return b.block((0,))

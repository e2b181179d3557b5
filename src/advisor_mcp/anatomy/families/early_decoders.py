"""GPT-1, CTRL, BioGPT and GPT-NeoX Japanese: LayerNorm, an MLP of two matrices, and heads that are the embedding."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.classics import Layer, Matrices, Names, Projected, decoder, heads_of, used
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.gpt2 import HEADS, HIDDEN, LAYERS, POSITIONS
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import Attention, Draft, assemble, by_kind, embedding_block, head_block

MODEL_TYPES = ("openai-gpt", "ctrl", "biogpt", "gpt_neox_japanese")
# GPT-1 normalises after its parts and has no last norm
GPT1 = Names("transformer.tokens_embed.weight", "transformer.positions_embed.weight", norm="")
CTRL = Names("transformer.w.weight", norm="transformer.layernorm")
BIOGPT = Names(
    "biogpt.embed_tokens.weight",
    "biogpt.embed_positions.weight",
    "biogpt.layers.{layer}.",
    "biogpt.layer_norm",
    "output_projection",
)
JAPANESE = Names(
    "gpt_neox_japanese.embed_in.weight", layer="gpt_neox_japanese.layers.{layer}.", norm="gpt_neox_japanese.final_layer_norm",
    head="embed_out",
)  # fmt: skip
SPARE_ROWS = 2  # BioGPT looks positions up two rows further on


def describe(c: Config) -> Architecture:
    """A configuration of transformers' OpenAIGPTConfig, CTRLConfig, BioGptConfig or GPTNeoXJapaneseConfig (5.23.0)."""
    families = {"openai-gpt": _gpt1, "ctrl": _ctrl, "biogpt": _biogpt, "gpt_neox_japanese": _japanese}
    return families[c.text("model_type") or "openai-gpt"](c)


def _gpt1(c: Config) -> Architecture:
    sizes = heads_of(c, HIDDEN, HEADS) | {"vocab": c.number("vocab_size")}
    sizes["ffn"] = 4 * sizes["h"]
    sizes["positions"] = c.number(*POSITIONS, default=512, of="OpenAIGPTConfig")
    attention = Projected("attn.", ("", "", "", "c_proj"), fused="c_attn", transposed=True)
    layer = Layer(attention, Matrices(names=("c_fc", "c_proj"), transposed=True), ("ln_1", "ln_2"), "post")
    tied = c.flag("tie_word_embeddings", default=True)
    return decoder(c, "openai-gpt", layer, sizes, c.layers(*LAYERS), names=GPT1, tied=tied)


def _ctrl(c: Config) -> Architecture:
    sizes = heads_of(c, HIDDEN, HEADS) | {"ffn": c.number("dff"), "vocab": c.number("vocab_size")}
    attention = Projected("multi_head_attention.", ("Wq", "Wk", "Wv", "dense"))
    layer = Layer(attention, Matrices("ffn.", ("0", "2")), ("layernorm1", "layernorm2"))
    tied = c.flag("tie_word_embeddings", default=True)
    return decoder(c, "ctrl", layer, sizes, c.layers(*LAYERS), names=CTRL, tied=tied, head_bias=True)


def _biogpt(c: Config) -> Architecture:
    sizes = heads_of(c) | {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    sizes["positions"] = c.number("max_position_embeddings", default=1024, of="BioGptConfig") + SPARE_ROWS
    attention = Projected(names=("q_proj", "k_proj", "v_proj", "out_proj"))
    layer = Layer(attention, Matrices(""), ("self_attn_layer_norm", "final_layer_norm"))
    tied = c.flag("tie_word_embeddings", default=True)
    return decoder(c, "biogpt", layer, sizes, c.layers(), names=BIOGPT, tied=tied)


@dataclass(frozen=True, slots=True)
class Biased:
    """An attention with a bias of its own for what it returns, which only the last layer has."""

    attention: Attention

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the attention and the bias."""
        self.attention.write(b, source, span)
        b.tensor("attention.dense_bias", ("h",), "attention")


def _japanese(c: Config) -> Architecture:
    sizes = heads_of(c) | {"vocab": c.number("vocab_size")}
    sizes["ffn"] = sizes["h"] * c.number("intermediate_multiple_size", default=4, of="GPTNeoXJapaneseConfig")
    attention = Projected(
        "attention.", ("", "", "", "dense"), fused="query_key_value", bias=False, o_bias=False, rope=True
    )  # fmt: skip
    feed = Matrices(names=("dense_h_to_4h", "dense_4h_to_h"), bias=False)
    norms = ("input_layernorm", "post_attention_layernorm")
    layers = {"full": Layer(attention, feed, norms), "last": Layer(Biased(attention), feed, norms)}

    def write(b: Draft, kind: str) -> None:
        layers[kind].write(b, Span())

    tied = c.flag("tie_word_embeddings", default=True)
    blocks = [
        embedding_block(JAPANESE.embedding),
        *by_kind([*["full"] * (c.layers() - 1), "last"], write, JAPANESE.layer),
        head_block(JAPANESE.embedding, tied, JAPANESE.norm, "layer", name=JAPANESE.head),
    ]
    return assemble(c, "gpt_neox_japanese", blocks, sizes, used(sizes), tied)

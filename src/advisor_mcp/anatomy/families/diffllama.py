"""DiffLlama: Llama's layer with differential attention, the difference of two attentions by learned weights."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import Draft, Gated
from advisor_mcp.anatomy.variants import Heads, axes_of, dense, with_ffn

MODEL_TYPES = ("diffllama",)
LAMBDAS = ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")


@dataclass(frozen=True, slots=True)
class Differential:
    """Two attentions over the same keys, each over half of the values, subtracted by four learned vectors."""

    heads: Heads

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the vectors and both attentions."""
        for name in LAMBDAS:
            b.tensor(f"self_attn.{name}", ("hd",), "attention")
        self.heads.write(b, source, span)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' DiffLlamaConfig, whose KV heads come in pairs."""
    bias = c.flag("attention_bias")
    sizes = with_ffn(c, axes_of(c))
    c.divides(sizes["kvh"], 2, "differential attention splits the values in two, and num_key_value_heads is odd")
    attention = Differential(Heads(q_bias=bias, kv_bias=bias, o_bias=bias, cores=2))
    return dense(c, "diffllama", attention, Gated(), sizes, tied=c.flag("tie_word_embeddings"))

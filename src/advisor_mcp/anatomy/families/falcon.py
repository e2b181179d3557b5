"""Falcon 1 and 2: one q-k-v matrix with few KV heads, attention and MLP side by side, rotary positions or ALiBi."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Names, Projected, decoder, four_times, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("falcon",)
NAMES = Names("transformer.word_embeddings.weight")
TWO, ONE, SEQUENTIAL = ("ln_attn", "ln_mlp"), ("input_layernorm",), ("input_layernorm", "post_attention_layernorm")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' FalconConfig.

    The new decoder architecture has `num_kv_heads`, the old one a single KV head (`multi_query`, the class default) or one
    per head. The cache is that of the KV heads, which engines keep; transformers repeats them before it caches.
    """
    sizes = four_times(c, heads_of(c, ("n_embed", "hidden_size"), kv_heads=_kv_heads(c)), "ffn_hidden_size")
    sizes["vocab"] = c.number("vocab_size")
    bias, norms = c.flag("bias"), _norms(c)
    layer = Layer(
        Projected("self_attention.", ("", "", "", "dense"), "query_key_value", bias, bias, rope=not c.flag("alibi")),
        Matrices(names=("dense_h_to_4h", "dense_4h_to_h"), bias=bias),
        norms,
        "pre" if norms == SEQUENTIAL else "parallel",
    )
    tied = c.flag("tie_word_embeddings", default=True)
    return decoder(c, "falcon", layer, sizes, c.layers(), names=NAMES, tied=tied)


def _kv_heads(c: Config) -> int | None:
    if c.flag("new_decoder_architecture"):
        return c.optional("num_kv_heads")
    return 1 if c.flag("multi_query", default=True) else None


def _norms(c: Config) -> tuple[str, ...]:
    """The class's norms; it has no forward pass for the combinations that are refused."""
    new, parallel = c.flag("new_decoder_architecture"), c.flag("parallel_attn", default=True)
    number = c.number("num_ln_in_parallel_attn", default=2 if new else 1)
    if not parallel and new:
        raise UsageError("the configuration contradicts itself: new_decoder_architecture needs parallel_attn")
    if parallel and not new and number == 2:
        raise UsageError(
            "the configuration contradicts itself: num_ln_in_parallel_attn 2 needs new_decoder_architecture"
        )
    return SEQUENTIAL if not parallel else TWO if number == 2 else ONE

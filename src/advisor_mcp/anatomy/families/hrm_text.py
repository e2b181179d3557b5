"""HRM-Text: two stacks of layers that run in turn, the low one several times for each time of the high one.

The weights of a stack are held once; every run computes and caches anew.
"""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy.config import MOST_LAYERS, Config
from advisor_mcp.anatomy.inventory import Architecture, Block, Op, Span, Terms
from advisor_mcp.anatomy.parts import (
    RESIDUAL,
    TOKENS,
    Draft,
    assemble,
    attend,
    embedding_block,
    grouped_axes,
    head_block,
    kv_cache,
)
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("hrm_text",)
OF = "HrmTextConfig"
DERIVED: dict[str, Terms] = {
    "q": ((1, ("qh", "hd")),),
    "g_q_k_v": ((4, ("qh", "hd")),),
    "gate_up": ((2, ("ffn",)),),
}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' HrmTextConfig (5.23.0); tensor names are those of the published checkpoint."""
    heads = c.number("num_attention_heads", default=12, of=OF)
    c.divides(c.number("hidden_size"), heads, "the heads do not divide hidden_size")
    alone = Config({**c.data, "num_attention_heads": heads, "num_key_value_heads": heads}, c.prefix, c.notes)
    sizes = grouped_axes(alone, OF, head_dim=128) | {"vocab": c.number("vocab_size")}
    sizes["ffn"] = c.number("intermediate_size")
    high, low = c.number("H_cycles", default=2, of=OF), c.number("L_cycles", default=3, of=OF)
    depth = c.layers("num_layers_per_stack", "num_hidden_layers")
    if depth * high * (low + 1) > MOST_LAYERS:
        raise UsageError(f"the configuration runs more than {MOST_LAYERS} layers: check H_cycles and L_cycles")
    tied = c.flag("tie_word_embeddings")
    stacks = [_stack(c, "L", depth, high * low), _stack(c, "H", depth, high)]
    head = head_block("model.embed_tokens.weight", tied, kind="none")
    return assemble(c, "hrm_text", [_embedding(), *stacks, head], sizes, DERIVED, tied)


def _embedding() -> Block:
    """The embedding, and the state that the low stack starts from, which is stored but not trained."""
    block, start = embedding_block(), Draft("embedding")
    start.tensor("model.z_L_init", ("h",), "other")
    return replace(block, tensors=(*block.tensors, *start.tensors))


def _stack(c: Config, letter: str, depth: int, runs: int) -> Block:
    b = Draft(f"{letter} stack", f"model.{letter}_module.layers.{{layer}}.")
    b.value("x", RESIDUAL)
    _layer(b, c.flag("attention_bias"), c.flag("mlp_bias"))
    once = b.block(tuple(range(depth)))
    ops = [_again(op, run) for run in range(runs) for op in once.ops]
    values = {_named(name, run): value for run in range(runs) for name, value in once.values.items()}
    return replace(once, ops=tuple(ops), values=values, caches=once.caches * runs)


def _again(op: Op, run: int) -> Op:
    return replace(
        op, out=tuple(_named(name, run) for name in op.out), reads=tuple(_named(name, run) for name in op.reads)
    )


def _named(value: str, run: int) -> str:
    """What a value is called in a later run, which keeps one of its own."""
    return value if run == 0 else f"{value}#{run}"


def _layer(b: Draft, bias: bool, mlp_bias: bool) -> None:
    b.norm("input_layernorm", "x", "a", "none")
    b.linear("attn.gqkv_proj", "a", "gqkv", ("g_q_k_v", "h"), "attention", bias)
    b.op("rope", ("gqkv",), "qr", (*TOKENS, "q"))
    attend(b, Span(), reads=("qr", "gqkv"))
    b.caches.append(kv_cache(Span(), ((2, ("kvh", "hd")),)))
    b.op("gate", ("att", "gqkv"), "gated", (*TOKENS, "q"))
    b.linear("attn.o_proj", "gated", "o", ("h", "q"), "attention", bias)
    b.add("x", "o", "r")
    b.norm("post_attention_layernorm", "r", "m", "none")
    b.linear("mlp.gate_up_proj", "m", "gate_up", ("gate_up", "h"), "mlp", mlp_bias)
    b.op("gate", ("gate_up",), "act", (*TOKENS, "ffn"))
    b.linear("mlp.down_proj", "act", "y", ("h", "ffn"), "mlp", mlp_bias)
    b.add("r", "y", "out")

"""Zyphra's ZAYA1: compressed convolutional attention, one expert (or none) per token, and a router with a memory of its own.

The attention is that of arXiv:2510.04476 as transformers holds it: two short convolutions over queries and keys, and values
half of which come from the token before.
"""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block, Cache, Span, Terms
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    RESIDUAL,
    TOKENS,
    Draft,
    assemble,
    attend,
    by_kind,
    grouped_axes,
    head_block,
    kv_cache,
)
from advisor_mcp.anatomy.sparse import Filled
from advisor_mcp.errors import CannotAnswer, UsageError

MODEL_TYPES = ("zaya",)
OF = "ZayaConfig"
DEFAULTS = {
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 128, "num_experts": 16, "num_experts_per_tok": 1,
    "moe_intermediate_size": 2048, "router_hidden_size": 256, "cca_time0": 2, "cca_time1": 2,
}  # fmt: skip
KINDS = {"hybrid": "full", "hybrid_sliding": "sliding"}
SCALINGS = ("hidden_states_scale", "hidden_states_bias", "residual_scale", "residual_bias")
DERIVED: dict[str, Terms] = GROUPED_DERIVED | {
    "qk": ((1, ("qh", "hd")), (1, ("kvh", "hd"))),
    "kv_half": ((0.5, ("kvh", "hd")),),
    "gate_up": ((2, ("moe_ffn",)),),
}


@dataclass(frozen=True, slots=True)
class Convolutional:
    """Attention whose queries and keys pass a depthwise and a grouped convolution over `times` positions each."""

    bias: bool
    times: tuple[int, int]

    def write(self, b: Draft, source: str, span: Span, prefix: str = "self_attn.") -> None:
        """Add the projections, both convolutions, the attention, and what is kept of keys, values and columns."""
        self._project(b, source, f"{prefix}qkv_proj.")
        b.norm(f"{prefix}qk_norm", "qkg", "qkn", "none", "hd", "qk_norm", (*b.tokens, "qk"))
        scale = b.tensor(f"{prefix}qk_norm.temp", ("kvh",), "qk_norm")
        b.op("rope", ("qkn",), "qr", (*b.tokens, "qk"), weights=[scale])
        attend(b, span, reads=("qr", "v_now", "v_before"))
        b.caches.append(kv_cache(span, ((2, ("kvh", "hd")),)))
        columns = sum(self.times) - len(self.times)
        kept: Terms = ((columns, ("qk",)), (1, ("kv_half",))) if columns else ((1, ("kv_half",)),)
        b.caches.append(Cache("recurrent", fixed=kept))
        b.linear(f"{prefix}o_proj", "att", "o", ("h", "q"), "attention", self.bias)

    def _project(self, b: Draft, source: str, prefix: str) -> None:
        projections = (("q_proj", "q", "q"), ("k_proj", "k", "kv"), ("v_proj_current", "v_now", "kv_half"))
        for name, out, axis in (*projections, ("v_proj_delayed", "v_before", "kv_half")):
            b.linear(f"{prefix}{name}", source, out, (axis, "h"), "attention", self.bias)
        b.op("concatenate", ("q", "k"), "qk", (*b.tokens, "qk"))
        for name, reads, out, width, time in (
            ("conv_qk_depthwise", "qk", "qkd", 1, self.times[0]),
            ("conv_qk_grouped", "qkd", "qkg", "hd", self.times[1]),
        ):
            weights = [
                b.tensor(f"{prefix}{name}.weight", ("qk", width, time), "attention"),
                b.tensor(f"{prefix}{name}.bias", ("qk",), "attention"),
            ]
            b.op("conv", (reads,), out, (*b.tokens, "qk"), ((2, (*b.tokens, "qk", width, time)),), weights)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' ZayaConfig (5.23.0)."""
    f = Filled(c, OF, DEFAULTS)
    sizes = grouped_axes(f, OF, heads=8, kv_heads=2, head_dim=128) | {"vocab": f.number("vocab_size")}
    f.divides(sizes["kvh"] * sizes["hd"], 2, "the keys of all heads do not divide into two halves")
    sizes |= _experts(f)
    reach = f.layer_kinds("layer_types", f.layers(), KINDS) or ["full"] * f.layers()
    window = f.optional("sliding_window")
    if "sliding" in reach and window is None:
        raise UsageError("sliding_window in the configuration is null, but some of its layers see a window")
    spans = {"full": Span(), "sliding": Span(window=window)}
    attention = Convolutional(f.flag("attention_bias"), (f.number("cca_time0"), f.number("cca_time1")))
    # the first router has no router before it to take a state from
    kinds = [f"first-{span}" if index == 0 else span for index, span in enumerate(reach)]

    def write(b: Draft, kind: str) -> None:
        _layer(b, attention, spans[kind.removeprefix("first-")], remembers=not kind.startswith("first-"))

    tied = f.flag("tie_word_embeddings", default=True)
    head = head_block("model.embed_tokens.weight", tied, bias=f.flag("lm_head_bias"))
    biases = Draft("router biases", "model.layers.{layer}.")
    biases.tensor("mlp.gate.balancing_biases", ("choices",), "router", dtype="fp32")
    beside = (biases.block(tuple(range(len(kinds)))),)
    blocks = [_embedding(), *by_kind(kinds, write), head]
    used = [spans[kind] for kind in dict.fromkeys(reach)]
    return assemble(c, "zaya", blocks, sizes, DERIVED, tied, used, beside=beside)


def _experts(f: Filled) -> dict[str, int]:
    if (used := f.number("num_experts_per_tok")) != 1:
        raise CannotAnswer(f"num_experts_per_tok is {used}; ZAYA is described with 1 expert per token")
    number = f.number("num_experts")
    # the router may also choose no expert at all
    sizes = {"expert": number, "choices": number + 1, "topk": 1, "moe_ffn": f.number("moe_intermediate_size")}
    return sizes | {"router_h": f.number("router_hidden_size")}


def _embedding() -> Block:
    b = Draft("embedding")
    b.value("ids", TOKENS, "int")
    table = b.tensor("model.embed_tokens.weight", ("vocab", "h"), "token_embedding")
    b.op("lookup", ("ids",), "e", RESIDUAL, weights=[table])
    scaling = [b.tensor(f"model.input_hidden_states_{name}", ("h",), "other") for name in ("scale", "bias")]
    b.op("scale", ("e",), "x", RESIDUAL, weights=scaling)
    return b.block((0,))


def _layer(b: Draft, attention: Convolutional, span: Span, remembers: bool) -> None:
    b.norm("input_layernorm", "x", "a")
    attention.write(b, "a", span)
    _scaled(b, "post_attention_residual_scale", "x", "o", "r")
    b.norm("post_attention_layernorm", "r", "m")
    _route(b, "m", remembers)
    _expert(b, "m")
    _scaled(b, "post_mlp_residual_scale", "r", "y", "out")


def _scaled(b: Draft, name: str, stream: str, update: str, out: str) -> None:
    weights = [b.tensor(f"{name}.{part}", ("h",), "other") for part in SCALINGS]
    b.op("add", (stream, update), out, RESIDUAL, weights=weights)


def _route(b: Draft, source: str, remembers: bool) -> None:
    """The router: a narrow projection, to which the layer before adds its own, and an MLP of three products."""
    prefix = "mlp.gate."
    b.linear(f"{prefix}down_proj", source, "rs", ("router_h", "h"), "router", bias=True)
    state = "rs"
    if remembers:
        scale = b.tensor(f"{prefix}router_states_scale", ("router_h",), "router")
        b.op("add", ("rs",), "rs_sum", (*b.tokens, "router_h"), weights=[scale])
        state = "rs_sum"
    b.norm(f"{prefix}router_mlp.norm", state, "rn", axis="router_h", role="router")
    b.linear(f"{prefix}router_mlp.fc1", "rn", "r1", ("router_h", "router_h"), "router", bias=True)
    b.linear(f"{prefix}router_mlp.fc2", "r1", "r2", ("router_h", "router_h"), "router", bias=True)
    b.linear(f"{prefix}router_mlp.out_proj", "r2", "scores", ("choices", "router_h"), "router")
    b.op("top_k", ("scores",), "routes", (*b.tokens, "topk"))


def _expert(b: Draft, source: str) -> None:
    rows = (*b.tokens, "topk")
    joined = b.tensor("mlp.experts.gate_up_proj", ("expert", "gate_up", "h"), "routed_experts", matrix=True)
    down = b.tensor("mlp.experts.down_proj", ("expert", "h", "moe_ffn"), "routed_experts", matrix=True)
    b.op("linear", (source,), "expert_gate_up", (*rows, "gate_up"), ((2, (*rows, "h", "gate_up")),), [joined])
    b.op("gate", ("expert_gate_up",), "expert_act", (*rows, "moe_ffn"))
    b.op("linear", ("expert_act",), "expert_out", (*rows, "h"), ((2, (*rows, "moe_ffn", "h")),), [down])
    b.op("combine", ("expert_out", "routes"), "y", RESIDUAL)

"""xLSTM: a matrix memory per head (mLSTM) with an input, a forget and an output gate, and a gated MLP, in every block."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Cache, Terms
from advisor_mcp.anatomy.parts import Draft, Norm, assemble, by_kind, embedding_block, head_block
from advisor_mcp.anatomy.recurrent import factor, state_dtype
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("xlstm",)
ROLE: Literal["other"] = "other"  # where the reference count has the matrices of an mLSTM
EMBEDDINGS = "backbone.embeddings.weight"
DERIVED: dict[str, Terms] = {
    "qk": ((1, ("qh", "qk_dim")),),
    "v": ((1, ("qh", "v_dim")),),
    "q_k_v_o": ((2, ("qh", "qk_dim")), (2, ("qh", "v_dim"))),
    "i_f": ((2, ("qh",)),),
    "gate_up": ((2, ("ffn",)),),
}


@dataclass(frozen=True, slots=True)
class Memory:
    """The mLSTM (arXiv:2405.04517); `fused` files hold its inputs, and the MLP's, in one matrix each."""

    fused: bool
    bias: bool
    dtype: str | None

    def write(self, b: Draft, source: str, prefix: str = "mlstm_layer.") -> None:
        """Add the inputs, the recurrence with its memory, the norm per head, the output gate and product, into `o`."""
        inputs = self._inputs(b, source, prefix)
        memory, norm = (*b.tokens, "qh", "qk_dim", "v_dim"), (*b.tokens, "qh", "qk_dim")
        # a matrix and the sum of keys that normalises what is read from it, each updated and read once
        b.op("scan", inputs, "memory", (*b.tokens, "v"), ((4, memory), (4, norm)))
        kept: Terms = ((1, ("qh", "qk_dim", "v_dim")), (1, ("qh", "qk_dim")), (1, ("qh",)))
        b.caches.append(Cache("recurrent", fixed=kept, dtype=self.dtype))
        b.norm(f"{prefix}multihead_norm", "memory", "memory_n", _norm(self.bias), axis="v")
        b.op("gate", ("memory_n", inputs[0] if self.fused else "og"), "gated", (*b.tokens, "v"))
        b.linear(f"{prefix}out_proj", "gated", "o", ("h", "v"), ROLE, self.bias)

    def _inputs(self, b: Draft, source: str, prefix: str) -> tuple[str, ...]:
        if self.fused:
            b.linear(f"{prefix}qkv_opreact", source, "q_k_v_o", ("q_k_v_o", "h"), ROLE, self.bias)
            b.linear(f"{prefix}ifgate_preact", source, "i_f", ("i_f", "h"), ROLE, bias=True)
            return "q_k_v_o", "i_f"
        for name, out, axis in (("q", "q", "qk"), ("k", "k", "qk"), ("v", "v", "v"), ("ogate_preact", "og", "v")):
            b.linear(prefix + name, source, out, (axis, "h"), ROLE, self.bias)
        for name in ("igate_preact", "fgate_preact"):
            b.linear(prefix + name, source, name, ("qh", "h"), ROLE, bias=True)
        return "q", "k", "v", "igate_preact", "fgate_preact"

    def feed(self, b: Draft, source: str, prefix: str = "ffn.") -> None:
        """Add the gated MLP, into `y`."""
        if self.fused:
            b.linear(f"{prefix}proj_up_gate_z", source, "gate_up", ("gate_up", "h"), "mlp", self.bias)
        else:
            b.linear(f"{prefix}proj_up_gate", source, "gate", ("ffn", "h"), "mlp", self.bias)
            b.linear(f"{prefix}proj_up", source, "up", ("ffn", "h"), "mlp", self.bias)
        b.op("gate", ("gate_up",) if self.fused else ("gate", "up"), "act", (*b.tokens, "ffn"))
        b.linear(f"{prefix}proj_down", "act", "y", ("h", "ffn"), "mlp", self.bias)


def _norm(bias: bool) -> Norm:
    return "layer" if bias else "rms"  # an RMSNorm with a bias holds what a LayerNorm does


def describe(c: Config) -> Architecture:
    """A configuration of transformers' xLSTMConfig; its class never ties the head and always has the last norm."""
    bias, mode = c.flag("use_bias"), c.text("weight_mode") or "single"
    if mode not in ("single", "fused"):
        raise CannotAnswer(f"weight_mode {shown(mode)} is not described for xLSTM; known are single and fused")
    memory = Memory(mode == "fused", bias, state_dtype(c, "inference_state_dtype", "fp32"))
    norm = _norm(bias)

    def layer(b: Draft, kind: str) -> None:
        b.norm("norm_mlstm", "x", "a", norm)
        memory.write(b, "a")
        b.add("x", "o", "r")
        b.norm("norm_ffn", "r", "m", norm)
        memory.feed(b, "m")
        b.add("r", "y", "out")

    # the position counter that the class keeps with the states
    embedding = replace(embedding_block(EMBEDDINGS), caches=(Cache("recurrent", fixed=((1, (1,)),)),))
    blocks = [
        embedding,
        *by_kind(["mlstm"] * _layers(c), layer, "backbone.blocks.{layer}."),
        head_block(EMBEDDINGS, False, "backbone.out_norm"),
    ]
    return assemble(c, "xlstm", blocks, _axes(c), DERIVED, False, spans=())


def _layers(c: Config) -> int:
    layers = c.layers("num_blocks", "num_hidden_layers")
    if c.number("num_hidden_layers", default=layers) != layers:
        raise UsageError("the configuration contradicts itself: num_blocks is not num_hidden_layers")
    return layers


def _axes(c: Config) -> dict[str, int]:
    h, heads = c.number("hidden_size", "embedding_dim"), c.number("num_heads", default=8, of="xLSTMConfig")
    if c.number("embedding_dim", default=h) != h:
        raise UsageError("the configuration contradicts itself: embedding_dim is not hidden_size")
    multiple = c.number("ffn_round_up_to_multiple_of", default=64, of="xLSTMConfig")

    def head_size(name: str, default: float) -> int:
        return c.divides(
            _scaled(h, factor(c, name, default), name), heads, f"the heads do not divide {name} x hidden_size"
        )

    # the class adds the multiple before it divides, in floating point
    ffn = int(((h * factor(c, "ffn_proj_factor", 2.667) + multiple - 1) // multiple) * multiple)
    if ffn < 1:
        raise UsageError("ffn_proj_factor in the configuration leaves the MLP no width")
    return {
        "h": h, "qh": heads, "qk_dim": head_size("qk_dim_factor", 0.5), "v_dim": head_size("v_dim_factor", 1.0),
        "ffn": ffn, "vocab": c.number("vocab_size"),
    }  # fmt: skip


def _scaled(h: int, by: float, name: str) -> int:
    width = int(h * by)
    if width < 1:
        raise UsageError(f"{name} in the configuration leaves no width of hidden_size {h}")
    return width

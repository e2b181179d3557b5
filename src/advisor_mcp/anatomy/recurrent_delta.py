"""Linear attention by the gated delta rule: a short causal convolution, a matrix of state per head, and a gated norm.

A head's state is a (key width x value width) matrix S. Each token decays it, reads what it holds for the key, writes the
difference to the value back, and reads it for the query: S <- S a; S <- S + k (v - S'k) b; o = S'q (arXiv:2412.06464). The
axes are delta_kh and delta_vh (key and value heads), delta_kd and delta_vd (their widths), conv_kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Axes, Axis, Cache, Span, Terms
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.errors import CannotAnswer, shown

ROLE = "ssm_or_linear_attn"
STATE_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
# the read for the key, the rank-one write and the read for the query
PRODUCTS_PER_TOKEN = 3

DERIVED: dict[str, Terms] = {
    "delta_k": ((1, ("delta_kh", "delta_kd")),),
    "delta_v": ((1, ("delta_vh", "delta_vd")),),
    "delta_qkv": ((2, ("delta_kh", "delta_kd")), (1, ("delta_vh", "delta_vd"))),
    "delta_qkvz": ((2, ("delta_kh", "delta_kd")), (2, ("delta_vh", "delta_vd"))),
    "delta_ba": ((2, ("delta_vh",)),),
}


def delta_axes(
    c: Config, key_heads: int, value_heads: int, key_dim: int, value_dim: int, kernel: int
) -> dict[str, int]:
    """The axes of a delta layer; raises `UsageError` when the key heads do not divide the value heads."""
    c.divides(value_heads, key_heads, "the linear key heads do not divide the linear value heads")
    return {
        "delta_kh": key_heads, "delta_vh": value_heads, "delta_kd": key_dim, "delta_vd": value_dim, "conv_kernel": kernel
    }  # fmt: skip


def state_dtype(c: Config) -> str:
    """The format of the recurrent state: what `mamba_ssm_dtype` says, else fp32, in which the reference code keeps it."""
    found = c.text("mamba_ssm_dtype")
    if found is None:
        return "fp32"
    if found not in STATE_DTYPES:
        raise CannotAnswer(
            f"{c.prefix}mamba_ssm_dtype is {shown(found)}; the recurrent state is described in {', '.join(STATE_DTYPES)}"
        )
    return STATE_DTYPES[found]


def delta_caches(dtype: str) -> tuple[Cache, Cache]:
    """What a delta layer keeps of a sequence: the convolution's last `conv_kernel` columns and the state matrices."""
    return (
        Cache("recurrent", fixed=((1, ("conv_kernel", "delta_qkv")),)),
        Cache("recurrent", fixed=((1, ("delta_vh", "delta_kd", "delta_vd")),), dtype=dtype),
    )


def convolve(b: Draft, names: dict[str, Axis], source: str, out: str) -> None:
    """The short causal convolution over queries, keys and values: one kernel per channel, in one tensor or several."""
    weights = [b.tensor(f"{name}.weight", (channels, 1, "conv_kernel"), ROLE) for name, channels in names.items()]
    b.op("conv", (source,), out, (*b.tokens, "delta_qkv"), ((2, (*b.tokens, "delta_qkv", "conv_kernel")),), weights)


def scan(b: Draft, reads: tuple[str, ...], out: str, weights: list[str]) -> None:
    """The recurrence itself, 2 FLOPs per multiply-add of its three products per token and head."""
    axes: Axes = (*b.tokens, "delta_vh", "delta_kd", "delta_vd")
    b.op("scan", reads, out, (*b.tokens, "delta_v"), ((2 * PRODUCTS_PER_TOKEN, axes),), weights)


@dataclass(frozen=True, slots=True)
class GatedDelta:
    """Gated DeltaNet: one decay and one write strength per value head and token, and a gated RMSNorm per head.

    `projections` is how the checkpoint holds the inputs: q, k, v and z in one matrix and b, a in another ("joined":
    Qwen3-Next), q-k-v in one and z, b, a alone ("split": Qwen3.5), or all alone with a convolution each ("separate": OLMo).
    """

    projections: Literal["joined", "split", "separate"]
    dtype: str = "fp32"

    def write(self, b: Draft, source: str, span: Span, prefix: str = "linear_attn.") -> None:
        """Add the projections, the convolution, the recurrence with its state, the gated norm and the output product."""
        gate, signals = self._project(b, source, prefix)
        decay = [b.tensor(f"{prefix}A_log", ("delta_vh",), ROLE), b.tensor(f"{prefix}dt_bias", ("delta_vh",), ROLE)]
        scan(b, ("mixed", *signals), "core", decay)
        b.caches.extend(delta_caches(self.dtype))
        separate = self.projections == "separate"
        gated_norm(b, f"{prefix}{'o_norm' if separate else 'norm'}", gate)
        b.linear(f"{prefix}{'o_proj' if separate else 'out_proj'}", "core_gated", "o", ("h", "delta_v"), ROLE)

    def _project(self, b: Draft, source: str, prefix: str) -> tuple[str, tuple[str, ...]]:
        """The inputs and the convolution; returns the names of the output gate and of the values that steer the state."""
        if self.projections == "joined":
            b.linear(f"{prefix}in_proj_qkvz", source, "qkvz", ("delta_qkvz", "h"), ROLE)
            b.linear(f"{prefix}in_proj_ba", source, "ba", ("delta_ba", "h"), ROLE)
            convolve(b, {f"{prefix}conv1d": "delta_qkv"}, "qkvz", "mixed")
            return "qkvz", ("ba",)
        if self.projections == "split":
            b.linear(f"{prefix}in_proj_qkv", source, "qkv", ("delta_qkv", "h"), ROLE)
            self._alone(b, source, {"z": "delta_v", "b": "delta_vh", "a": "delta_vh"}, f"{prefix}in_proj_{{}}")
            convolve(b, {f"{prefix}conv1d": "delta_qkv"}, "qkv", "mixed")
            return "z", ("b", "a")
        inputs = {"q": "delta_k", "k": "delta_k", "v": "delta_v", "a": "delta_vh", "b": "delta_vh", "g": "delta_v"}
        self._alone(b, source, inputs, f"{prefix}{{}}_proj")
        convolve_each(b, prefix)
        return "g", ("b", "a")

    def _alone(self, b: Draft, source: str, inputs: dict[str, str], name: str) -> None:
        for letter, axis in inputs.items():
            b.linear(name.format(letter), source, letter, (axis, "h"), ROLE)


def convolve_each(b: Draft, prefix: str) -> None:
    """A convolution each for queries, keys and values, over the values q, k and v into `mixed`."""
    b.op("concatenate", ("q", "k", "v"), "qkv", (*b.tokens, "delta_qkv"))
    names: dict[str, Axis] = {
        f"{prefix}q_conv1d": "delta_k", f"{prefix}k_conv1d": "delta_k", f"{prefix}v_conv1d": "delta_v"
    }  # fmt: skip
    convolve(b, names, "qkv", "mixed")


def gated_norm(b: Draft, name: str, gate: str) -> None:
    """RMSNorm of each value head of `core`, times the activated gate, into `core_gated`."""
    b.norm(name, "core", "core_n", axis="delta_vd", axes=(*b.tokens, "delta_v"))
    b.op("gate", ("core_n", gate), "core_gated", (*b.tokens, "delta_v"))


@dataclass(frozen=True, slots=True)
class KimiDelta:
    """Kimi Delta Attention: a decay per key channel (f) and an output gate (g), made by products of rank `delta_vd`.

    Those whose letter `full_rank` has are made by one matrix; `decay` is the shape of A_log.
    """

    dtype: str = "fp32"
    full_rank: str = ""
    decay: Axes = (1, 1, "delta_vh", 1)

    def write(self, b: Draft, source: str, span: Span, prefix: str = "self_attn.") -> None:
        """Add the projections, the convolutions, the recurrence with its state, the gated norm and the output product."""
        for letter, axis in (("q", "delta_k"), ("k", "delta_k"), ("v", "delta_v")):
            b.linear(f"{prefix}{letter}_proj", source, letter, (axis, "h"), ROLE)
        convolve_each(b, prefix)
        for letter, axis in (("f", "delta_k"), ("g", "delta_v")):
            if letter in self.full_rank:
                b.linear(f"{prefix}{letter}_proj", source, letter, (axis, "h"), ROLE)
                continue
            b.linear(f"{prefix}{letter}_a_proj", source, f"{letter}_a", ("delta_vd", "h"), ROLE)
            b.linear(f"{prefix}{letter}_b_proj", f"{letter}_a", letter, (axis, "delta_vd"), ROLE)
        b.linear(f"{prefix}b_proj", source, "b", ("delta_vh", "h"), ROLE)
        decay = [
            b.tensor(f"{prefix}A_log", self.decay, ROLE),
            b.tensor(f"{prefix}dt_bias", ("delta_k",), ROLE),
        ]
        scan(b, ("mixed", "f", "b"), "core", decay)
        b.caches.extend(delta_caches(self.dtype))
        gated_norm(b, f"{prefix}o_norm", "g")
        b.linear(f"{prefix}o_proj", "core_gated", "o", ("h", "delta_v"), ROLE)

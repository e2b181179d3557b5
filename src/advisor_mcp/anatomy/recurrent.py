"""Recurrent mixers: the state spaces of Mamba 1 and 2, short convolutions, and the layers that hold them.

A recurrence costs one multiply-add per element of its state and token to update it, and one to read it: 4 FLOPs. That is
the recurrent form, as decoding runs it; kernels that work in chunks multiply more, by an amount that their chunk size sets.
What is kept of a sequence is the state and the last `conv_kernel` inputs of the convolution (kernels need one less).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from advisor_mcp.anatomy.config import MOST_LAYERS, Config
from advisor_mcp.anatomy.inventory import Axes, Axis, Cache, Span, Terms
from advisor_mcp.anatomy.parts import Draft, attend, kv_cache
from advisor_mcp.errors import CannotAnswer, UsageError, shown

LARGEST_FACTOR = 1e6
ROLE = "ssm_or_linear_attn"
STATE_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
# what transformers renamed: `mamba` and `attention` stand in older files
LAYER_KINDS = {
    "mamba": "mamba", "linear_attention": "mamba", "attention": "attention", "full_attention": "attention",
}  # fmt: skip
HYBRID_KINDS = {"mamba": "mamba", "linear_attention": "mamba", "hybrid": "hybrid"}

MAMBA1_DERIVED: dict[str, Terms] = {
    "xz": ((2, ("inner",)),),
    "dt_b_c": ((1, ("dt_rank",)), (2, ("state",))),
}
MAMBA2_DERIVED: dict[str, Terms] = {
    "inner": ((1, ("ssm_heads", "ssm_hd")),),
    "conv_dim": ((1, ("ssm_heads", "ssm_hd")), (2, ("ssm_groups", "state"))),
    "z_xbc_dt": ((2, ("ssm_heads", "ssm_hd")), (2, ("ssm_groups", "state")), (1, ("ssm_heads",))),
}

Write = Callable[[Draft, str], None]


def mixer_layer(
    b: Draft, mix: Write, norm: str, feed: Write | None = None, feed_norm: str = "", mixed: str = "o"
) -> None:
    """Norm, mixer into `mixed`, residual; and where the layer has one: norm, feed-forward into `y`, residual."""
    b.norm(norm, "x", "a")
    mix(b, "a")
    b.add("x", mixed, "r" if feed else "out")
    if feed:
        b.norm(feed_norm, "r", "m")
        feed(b, "m")
        b.add("r", "y", "out")


def convolve(
    b: Draft, name: str, source: str, out: str, channels: Axis, bias: bool, kept: Terms | None = None, role: str = ROLE
) -> None:
    """A causal convolution of each channel for itself over `conv_kernel` positions; `kept` are the columns it keeps."""
    weights = [b.tensor(f"{name}.weight", (channels, 1, "conv_kernel"), role)]
    if bias:
        weights.append(b.tensor(f"{name}.bias", (channels,), role))
    b.op("conv", (source,), out, (*b.tokens, channels), ((2, (*b.tokens, channels, "conv_kernel")),), weights)
    b.caches.append(Cache("recurrent", fixed=kept or ((1, (channels, "conv_kernel")),)))


def scan(
    b: Draft, reads: Sequence[str], out: str, width: Axis, state: Axes,
    weights: Sequence[str] = (), dtype: str | None = None,
) -> None:  # fmt: skip
    """A recurrence over a state of these axes, from values `reads` to one of `width` per token; the state is kept."""
    b.op("scan", reads, out, (*b.tokens, width), ((4, (*b.tokens, *state)),), weights)
    b.caches.append(Cache("recurrent", fixed=((1, state),), dtype=dtype))


@dataclass(frozen=True, slots=True)
class Mamba1:
    """Mamba's selective state space: time step, B and C come from the convolved input (arXiv:2312.00752).

    `norms` are those of the three: none, without parameters (Falcon Mamba) or with (Jamba). With `heads` each head has
    products of its own for them (Zamba), held in tensors that are no layers' weights.
    """

    bias: bool = False
    conv_bias: bool = True
    norms: Literal["", "bare", "weighted"] = ""
    heads: bool = False

    def write(self, b: Draft, source: str, prefix: str = "mixer.") -> None:
        """Add the projections, the convolution, the scan with its state and the output product, into `o`."""
        b.linear(f"{prefix}in_proj", source, "xz", ("xz", "h"), ROLE, self.bias)
        convolve(b, f"{prefix}conv1d", "xz", "xc", "inner", self.conv_bias)
        self._per_head(b, prefix) if self.heads else self._joined(b, prefix)
        own: Axes = ("ssm_heads", "ssm_hd") if self.heads else ("inner",)
        weights = [b.tensor(f"{prefix}A_log", (*own, "state"), ROLE), b.tensor(f"{prefix}D", own, ROLE)]
        scan(b, ("xc", "dt", "dt_b_c"), "ys", "inner", (*own, "state"), weights)
        b.op("gate", ("ys", "xz"), "yz", (*b.tokens, "inner"))
        b.linear(f"{prefix}out_proj", "yz", "o", ("h", "inner"), ROLE, self.bias)

    def _joined(self, b: Draft, prefix: str) -> None:
        b.linear(f"{prefix}x_proj", "xc", "dt_b_c", ("dt_b_c", "inner"), ROLE)
        step = "dt_b_c"
        if self.norms:
            step = "dt_n"
            kind: Literal["rms", "none"] = "rms" if self.norms == "weighted" else "none"
            for name, axis in (("dt", "dt_rank"), ("b", "state"), ("c", "state")):
                b.norm(f"{prefix}{name}_layernorm", "dt_b_c", f"{name}_n", kind, axis)
        b.linear(f"{prefix}dt_proj", step, "dt", ("inner", "dt_rank"), ROLE, bias=True)

    def _per_head(self, b: Draft, prefix: str) -> None:
        x = b.tensor(f"{prefix}x_proj_weight", ("ssm_heads", "dt_b_c", "ssm_hd"), ROLE, matrix=True)
        rows: Axes = (*b.tokens, "ssm_heads")
        b.op("linear", ("xc",), "dt_b_c", (*rows, "dt_b_c"), ((2, (*rows, "ssm_hd", "dt_b_c")),), [x])
        step = b.tensor(f"{prefix}dt_proj_weight", ("ssm_heads", "ssm_hd", "dt_rank"), ROLE, matrix=True)
        bias = b.tensor(f"{prefix}dt_proj_bias", ("ssm_heads", "ssm_hd"), ROLE)
        b.op("linear", ("dt_b_c",), "dt", (*b.tokens, "inner"), ((2, (*rows, "dt_rank", "ssm_hd")),), [step, bias])


@dataclass(frozen=True, slots=True)
class Mamba2:
    """Mamba 2's state space: one decay per head, B and C per group of heads, made by the same product (arXiv:2405.21060).

    `norm` is the gated norm before the output product; `dtype` what the model fixes its state to.
    """

    bias: bool = False
    out_bias: bool = False
    conv_bias: bool = True
    norm: bool = True
    dtype: str | None = None

    def write(self, b: Draft, source: str, prefix: str = "mixer.", out: str = "o") -> None:
        """Add the projections, the convolution, the scan with its state and the gated norm, into `out`."""
        b.linear(f"{prefix}in_proj", source, "z_xbc_dt", ("z_xbc_dt", "h"), ROLE, self.bias)
        convolve(b, f"{prefix}conv1d", "z_xbc_dt", "xbc", "conv_dim", self.conv_bias)
        weights = [b.tensor(prefix + name, ("ssm_heads",), ROLE) for name in ("dt_bias", "A_log", "D")]
        scan(b, ("xbc", "z_xbc_dt"), "ys", "inner", ("ssm_heads", "ssm_hd", "state"), weights, self.dtype)
        gated = (*b.tokens, "inner")
        if self.norm:
            b.op(
                "norm", ("ys", "z_xbc_dt"), "yz", gated, weights=[b.tensor(f"{prefix}norm.weight", ("inner",), "norm")]
            )
        else:
            b.op("gate", ("ys", "z_xbc_dt"), "yz", gated)
        b.linear(f"{prefix}out_proj", "yz", out, ("h", "inner"), ROLE, self.out_bias)


@dataclass(frozen=True, slots=True)
class Positionless:
    """Grouped-query attention without rotary positions, which the recurrent layers around it make unnecessary."""

    bias: bool = False

    def write(self, b: Draft, source: str, prefix: str = "self_attn.", width: Axis = "h", out: str = "o") -> None:
        """Add the projections from values of `width`, the attention and its cache, into `out`."""
        b.linear(f"{prefix}q_proj", source, "q", ("q", width), "attention", self.bias)
        b.linear(f"{prefix}k_proj", source, "k", ("kv", width), "attention", self.bias)
        b.linear(f"{prefix}v_proj", source, "v", ("kv", width), "attention", self.bias)
        attend(b, Span())
        b.caches.append(kv_cache(Span(), ((2, ("kvh", "hd")),)))
        b.linear(f"{prefix}o_proj", "att", out, ("h", "q"), "attention", self.bias)


def expanded(c: Config, h: int, of: str, name: str = "expand") -> int:
    """The inner width of a state space: `expand` (2 where a file leaves it out) times the hidden size."""
    return c.number(name, default=2, of=of) * h


def time_step_rank(c: Config, h: int, name: str) -> int:
    """The rank of the time step's product; "auto", or none given, is a sixteenth of the hidden size, rounded up."""
    return -(-h // 16) if c.data.get(name) in (None, "auto") else c.number(name)


def mamba2_axes(
    c: Config, heads: int, head_dim: int, groups: int, state: int, kernel: int, inner: int | None = None
) -> dict[str, int]:
    """The axes of a Mamba 2 layer; raises `UsageError` where heads, groups and the inner width contradict each other."""
    if inner is not None and inner != heads * head_dim:
        raise UsageError(
            f"the configuration contradicts itself: {heads} Mamba heads of {head_dim} do not make the inner width {inner}"
        )
    c.divides(heads, groups, "the Mamba groups do not divide the Mamba heads")
    return {"ssm_heads": heads, "ssm_hd": head_dim, "ssm_groups": groups, "state": state, "conv_kernel": kernel}


def prefixed_axes(
    c: Config, h: int, of: str, heads: int = 128, groups: int = 1, state: int = 256, inner: int | None = None
) -> dict[str, int]:
    """The axes of a Mamba 2 layer from fields that begin with `mamba_`, as Bamba and its descendants have them.

    The defaults are those of the class `of`; `inner` replaces `mamba_expand` times the hidden size.
    """
    if inner is None:
        inner = expanded(c, h, of, "mamba_expand")
    heads = c.number("mamba_n_heads", default=heads, of=of)
    even = c.divides(inner, heads, "mamba_n_heads does not divide the inner width")
    head_dim = even if c.data.get("mamba_d_head") in (None, "auto") else c.number("mamba_d_head")
    return mamba2_axes(
        c,
        heads,
        head_dim,
        c.number("mamba_n_groups", default=groups, of=of),
        c.number("mamba_d_state", default=state, of=of),
        c.number("mamba_d_conv", default=4, of=of),
        inner,
    )


def state_dtype(c: Config, name: str, default: str | None = None) -> str | None:
    """The format that a field fixes the recurrent state to; `default` where the field is absent."""
    found = c.text(name)
    if found is None:
        return default
    if found not in STATE_DTYPES:
        raise CannotAnswer(
            f"{c.prefix}{name} is {shown(found)}; the recurrent state is described in {', '.join(STATE_DTYPES)}"
        )
    return STATE_DTYPES[found]


def factor(c: Config, name: str, default: float) -> float:
    """A width factor, `default` where a file leaves it out; raises `UsageError` for what is no positive number."""
    value = c.data.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < LARGEST_FACTOR:
        raise UsageError(f"{c.prefix}{name} in the configuration must be a positive number, not {shown(value)}")
    return value


def periodic(c: Config, layers: int, kind: str, period: int, offset: int) -> list[bool]:
    """Which layers are of the kind that comes once in `{kind}_layer_period`, from `{kind}_layer_offset` on.

    Raises `UsageError` when the offset is not inside the period. `period` and `offset` are the class's defaults.
    """
    every = c.number(f"{kind}_layer_period", default=period)
    first = c.number(f"{kind}_layer_offset", default=offset, least=0)
    if first >= every:
        raise UsageError(
            f"the configuration contradicts itself: {kind}_layer_offset {first} is not below {kind}_layer_period {every}"
        )
    return [index % every == first for index in range(layers)]


def layer_numbers(c: Config, name: str, layers: int) -> set[int] | None:
    """The layers that a field lists, or None when it is absent; raises `UsageError` for what is no layer's number."""
    found = c.entries(name)
    if found is None:
        return None
    if not all(isinstance(number, int) and not isinstance(number, bool) and 0 <= number < layers for number in found):
        raise UsageError(f"{c.prefix}{name} in the configuration must list layer numbers from 0 to {layers - 1}")
    return set(found)


def of_sizes(derived: Mapping[str, Terms], sizes: Mapping[str, int]) -> dict[str, Terms]:
    """The derived axes whose parts have sizes: a model without attention, say, has none of its axes."""
    return {
        axis: terms
        for axis, terms in derived.items()
        if all(part in sizes for _, axes in terms for part in axes if isinstance(part, str))
    }


def counted(c: Config, kinds: Sequence[str]) -> list[str]:
    """The layer kinds of a list that says how many layers there are; bounded, and held against num_hidden_layers."""
    if not 0 < len(kinds) <= MOST_LAYERS:
        raise UsageError(f"the configuration lists {len(kinds)} layers; 1 to {MOST_LAYERS} are described")
    layers = c.optional("num_hidden_layers")
    if layers not in (None, len(kinds)):
        c.notes.append(f"num_hidden_layers is {layers}, but {len(kinds)} layers are listed: the list counts")
    return list(kinds)

"""Bytes of number formats, and what each weight format stores beside the quantised values.

The layouts are those of the tools that write the files, tensors only, headers aside: transformers 5.23.0
(integrations/finegrained_fp8, fbgemm_fp8, mxfp4, bitnet), AutoGPTQ and AutoAWQ (casper-hansen/AutoAWQ@030fe2a
awq/modules/linear/gemm.py), bitsandbytes (QuantState.as_dict), compressed-tensors (vllm-project/compressed-tensors@01dd1a5
compressors/pack_quantized/base.py, @027d00c quantization/lifecycle/initialize.py) and TensorRT Model Optimizer (@0338c84
modelopt/torch/export/quant_utils.py). GGUF files are in `gguf_mixes`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from advisor_mcp.anatomy.inventory import Architecture, Sizes, Tensor
from advisor_mcp.errors import CannotAnswer, UsageError, shown

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1}
ALWAYS_KEPT = frozenset(
    {"router", "lm_head", "token_embedding", "position_embedding", "per_layer_embedding", "vision", "audio", "other"}
)
EMBEDDED = frozenset({"router", "token_embedding", "position_embedding", "per_layer_embedding"})
# stored in fp32 whatever the rest is in: 59 x 256 of DeepSeek-V3's 41,555,600 fp32 values
WIDE = re.compile(r"e_score_correction_bias$")
CONVOLUTION = re.compile(r"patch_(conv|embed)|conv1d")
PREFIX = frozenset({"model", "language_model"})  # which of these lead a path differs between files and configurations
LONGEST_PATTERN = 1_000
BNB_BLOCK, BNB_NESTED = 64, 256
ONE_MATRIX = 1 << 62  # a group, or outputs, that take in everything


def _up(number: Any, by: int) -> Any:
    """Ceiling of number / by, for numbers and numpy columns."""
    return -(-number // by)


@dataclass(frozen=True, slots=True)
class Coding:
    """How one matrix of `rows` outputs and `columns` inputs is stored.

    Values of `bits` are packed along the inputs into words of `word` bytes. One scale of `scale_bytes` serves `group`
    inputs of `outputs` outputs; a zero point of `zero_bits` goes with it, packed along the outputs. `per_input` are bytes
    per input and `fixed` bytes per matrix. A `flat` matrix is cut into groups regardless of its rows; `nested` groups of
    scales share a scale in 4 bytes, and `text` is the length of a description that also spells out the shape.
    """

    name: str
    bits: float = 8
    word: int = 1
    scale_bytes: int = 0
    group: int = ONE_MATRIX
    outputs: int = ONE_MATRIX
    zero_bits: int = 0
    per_input: int = 0
    fixed: int = 0
    flat: bool = False
    nested: int = 0
    text: int = 0

    def bytes(self, rows: Any, columns: Any) -> Any:
        """Bytes of one matrix; rows and columns may be numpy columns."""
        if self.flat:
            return self._flat(rows, columns)
        if self.word == 0:  # whole blocks, whose scales are inside
            return rows * columns * self.bits / 8
        values = rows * _up(columns * int(self.bits), 8 * self.word) * self.word
        groups = _up(columns, self.group)
        scales = _up(rows, self.outputs) * groups * self.scale_bytes
        zeros = groups * _up(rows * self.zero_bits, 8 * self.word) * self.word if self.zero_bits else 0
        return values + scales + zeros + self.per_input * columns + self.fixed

    def _flat(self, rows: Any, columns: Any) -> Any:
        groups = _up(rows * columns, self.group)
        second = _up(groups, self.nested) * 4 if self.nested else 0
        single = isinstance(rows, int | float) and isinstance(columns, int | float)
        digits = len(f"{rows:.0f}{columns:.0f}") if single else 8
        text = self.text + digits if self.text else 0
        return _up(rows * columns, 2) + groups * self.scale_bytes + second + self.fixed + text


NESTED = re.compile(r"\([^()]*[*+][^()]*\)\s*[*+{]")
MOST_REPEATS = 6


def _refuse_costly(patterns: Iterable[str]) -> None:
    """Refuse regular expressions that could take for ever: they come with somebody's configuration."""
    for pattern in patterns:
        repeats = pattern.count("*") + pattern.count("+")
        if pattern.startswith("re:") and (len(pattern) > 2_000 or repeats > MOST_REPEATS or NESTED.search(pattern)):
            raise CannotAnswer(
                f"the module pattern {shown(pattern)} is too involved to be matched safely", needs=["quantization"]
            )


class Names:
    """Modules that a configuration names: a path or a part of one, a glob, or a regular expression after 're:'."""

    __slots__ = ("_expression", "_hash", "_paths", "patterns")

    def __init__(self, patterns: Iterable[Any] = ()) -> None:
        self.patterns = tuple(str(pattern) for pattern in patterns)
        plain = [p for p in self.patterns if not set(p) & set("*?[]()\\^$|+") and not p.startswith("re:")]
        self._paths = frozenset(p.removesuffix(".weight") for p in plain) | frozenset(
            short for p in plain if (short := _shortened(p))
        )
        found = set(self.patterns) - set(plain)
        _refuse_costly(found)
        self._expression = re.compile("|".join(sorted(_expression(p) for p in found))) if found else None
        self._hash = hash(self.patterns)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Names) and self.patterns == other.patterns)

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def __contains__(self, path: object) -> bool:
        name = str(path)
        short = _shortened(name)
        if self._paths and any(part in self._paths for each in (name, short) for part in _parts(each)):
            return True
        return self._expression is not None and any(self._expression.match(each) for each in (name, short))


def _shortened(path: str) -> str:
    """A path without the parts that only say which of a checkpoint's models it is in."""
    return ".".join(part for part in path.removesuffix(".weight").split(".") if part not in PREFIX)


def _parts(path: str) -> Iterator[str]:
    """Every run of whole components of a path."""
    components = path.split(".")
    for start in range(len(components)):
        for end in range(start + 1, len(components) + 1):
            yield ".".join(components[start:end])


def _expression(pattern: str) -> str:
    """One pattern as a regular expression that matches from the start; raises `UsageError` for one that is none."""
    if len(pattern) > LONGEST_PATTERN:
        raise UsageError(
            f"a module pattern of {len(pattern):,} characters is too long; the most are {LONGEST_PATTERN:,}"
        )
    if pattern.startswith("re:"):
        text = f"(?:{pattern[3:]})"
    elif "*" in pattern and not set(pattern) & set("[]()\\^$|+"):
        body = ".*".join(re.escape(part) for part in _leading(pattern).split("*"))
        text = rf"(?:.*\.)?(?:{body})" + ("" if pattern.endswith("*") else r"(?:\.|$)")
    else:
        text = rf"(?:.*\.)?(?:{pattern})(?:\.|$)"
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError):
        raise UsageError(f"the module pattern {pattern[:80]!r} is no regular expression") from None
    return text


def _leading(pattern: str) -> str:
    while (head := pattern.partition("."))[0] in PREFIX and head[2]:
        pattern = head[2]
    return pattern


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """For each tensor how its layers are stored: codings (None: as it is) with the number of layers of each."""

    parts: dict[Tensor, tuple[tuple[Coding | None, int], ...]]
    towers_apart: bool = False


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """How weights are stored: `kept_dtype` for what is not quantised, and `quantization` for the matrices that are.

    Without a `plan` the quantisation applies to every linear layer but those of the roles always kept; `only` limits it
    to some roles. `extra_bytes` are stored beside the weights (scales of the cache); `note` says what is approximate.
    """

    kept_dtype: str
    quantization: str = "none"
    only: tuple[str, ...] = ()
    declared: bool = False
    note: str = ""
    plan: Plan | None = None
    extra_bytes: int = 0

    def parts(self, tensor: Tensor) -> tuple[tuple[Coding | None, int], ...]:
        """The codings of this tensor's layers, with the number of layers of each."""
        if self.plan is not None:
            return self.plan.parts.get(tensor, ((None, 1),))
        coding = CODINGS.get(self.quantization)
        taken = is_linear(tensor) and tensor.role not in ALWAYS_KEPT and (not self.only or tensor.role in self.only)
        return ((coding if taken else None, 1),)


def is_linear(tensor: Tensor) -> bool:
    """Whether this is the matrix of a linear layer, or of the experts that some files stack."""
    flat = len(tensor.axes) == 2 or tensor.role == "routed_experts"
    return tensor.matrix and flat and len(tensor.axes) > 1 and CONVOLUTION.search(tensor.name) is None


def plan(
    architecture: Architecture, rules: Iterable[tuple[Names | None, Coding]], excluded: Names, kept: frozenset[str]
) -> Plan:
    """Which coding each layer of each tensor gets: that of the first rule that names it (None names every linear layer).

    Linear layers of the roles `kept` and modules that are `excluded` stay as they are, unless a rule spells a role out.
    """
    taken = list(rules)
    layered = bool(excluded) or any(names for names, _ in taken)
    counts: dict[Tensor, dict[Coding | None, int]] = {}
    for block, tensor in architecture.stored():
        if not is_linear(tensor):
            continue
        found = counts.setdefault(tensor, {})
        for layer in block.layers if layered and "{layer}" in tensor.name else block.layers[:1]:
            path = tensor.name.replace("{layer}", str(layer)).replace("{expert}", "0").removesuffix(".weight")
            coding = None if path in excluded else _ruled(path, tensor, taken, kept)
            found[coding] = found.get(coding, 0) + 1
    return Plan({tensor: tuple(found.items()) for tensor, found in counts.items()})


def _ruled(path: str, tensor: Tensor, rules: list[tuple[Names | None, Coding]], kept: frozenset[str]) -> Coding | None:
    for names, coding in rules:
        if names is None and tensor.role not in kept:
            return coding
        if names is not None and path in names:
            return coding
    return None


@lru_cache(maxsize=4096)
def is_swapped(tensor: Tensor) -> bool:
    """Whether the file holds a matrix as (inputs, outputs): stacked experts of some models, and GPT-2's layers."""
    last, before, name = tensor.axes[-1], tensor.axes[-2], tensor.name
    if len(tensor.axes) > 2:
        return last == "gate_up" or ("down_proj" in name and last in ("h", "moe_h"))
    joined = "c_attn" in name or "c_fc" in name
    return (joined and before == "h") or ("c_proj" in name and last == "h" and before != "h")


def matrix_bytes(tensor: Tensor, sizes: Sizes, coding: Coding) -> Any:
    """Bytes of all copies of a quantised matrix with all that is stored beside its values.

    The last two axes are the matrix; copies and leading axes multiply it, and quantisers hold the gate and up matrices
    that a model joins for its stacked experts apart.
    """
    shape = [sizes[a] if isinstance(a, str) else a for a in tensor.axes]
    copies = math.prod([*(sizes[a] if isinstance(a, str) else a for a in tensor.copies), *shape[:-2]])
    rows, columns = reversed(shape[-2:]) if is_swapped(tensor) else shape[-2:]
    if len(shape) > 2 and "gate_up" in tensor.axes:
        rows, copies = rows / 2, copies * 2
    return copies * coding.bytes(rows, columns)


def tensor_bytes(tensor: Tensor, sizes: Sizes, fmt: WeightFormat) -> float:
    """Bytes of all copies of one tensor in one layer: the mean over layers where they differ."""
    parts = fmt.parts(tensor)
    total = sum(
        count * (_kept_bytes(tensor, sizes, fmt) if coding is None else matrix_or_vector(tensor, sizes, coding))
        for coding, count in parts
    )
    layers = sum(count for _, count in parts)
    return total if layers == 1 else total / layers if layers else 0.0


def matrix_or_vector(tensor: Tensor, sizes: Sizes, coding: Coding) -> Any:
    """Bytes of all copies of a tensor, whatever its shape; blocks with their scales inside need only its elements."""
    if coding.word == 0:
        return tensor.elements(sizes) * coding.bits / 8
    return matrix_bytes(tensor, sizes, coding)


def _kept_bytes(tensor: Tensor, sizes: Sizes, fmt: WeightFormat) -> Any:
    dtype = tensor.dtype or ("fp32" if WIDE.search(tensor.name) else fmt.kept_dtype)
    return tensor.elements(sizes) * BYTES[dtype]


def weight_bytes(architecture: Architecture, sizes: Sizes, fmt: WeightFormat) -> float:
    """Bytes of all weights at these sizes, one rank's when `sizes` are placed."""
    total: Any = sum(block.repeat * tensor_bytes(tensor, sizes, fmt) for block, tensor in architecture.tensors())
    whole: float = _whole(total + fmt.extra_bytes)
    return whole


def checkpoint_bytes(architecture: Architecture, fmt: WeightFormat) -> int:
    """Bytes of everything the checkpoint stores, what it holds beside the model included, file headers aside.

    A GGUF file holds the language model alone: towers are a file of their own.
    """
    sizes = architecture.bound()
    apart = fmt.plan is not None and fmt.plan.towers_apart
    total = sum(
        block.repeat * tensor_bytes(tensor, sizes, fmt)
        for block, tensor in architecture.stored()
        if not (apart and (block.tower or tensor.role in ("vision", "audio")))
    )
    return round(total + fmt.extra_bytes)


def _whole(number: Any) -> Any:
    """A sum of means without what rounding left in its last digits."""
    return float(round(number)) if isinstance(number, int | float) else number


def gptq_coding(bits: int = 4, group: int = 128) -> Coding:
    """GPTQ: values, scales in 16 bits and packed zero points per group, and the group of each input in 4 bytes."""
    size = group if group > 0 else ONE_MATRIX
    return Coding("gptq", bits, 4, scale_bytes=2, group=size, outputs=1, zero_bits=bits, per_input=4)


def awq_coding(group: int = 128) -> Coding:
    """AWQ in the layout of its GEMM kernel: as GPTQ, without the group of each input."""
    return Coding("awq", 4, 4, scale_bytes=2, group=group if group > 0 else ONE_MATRIX, outputs=1, zero_bits=4)


def bnb4_coding(kind: str = "nf4", nested: bool = True, dtype: str = "bfloat16") -> Coding:
    """bitsandbytes in 4 bits: a largest value per 64 values, the 16 values that codes stand for, and a description.

    Scales are quantised to 1 byte in groups of 256 where `nested`, with a table of 256 values of their own; the offset
    that their description then spells out is taken as 19 digits.
    """
    described = f'{{"quant_type": "{kind}", "blocksize": 64, "dtype": "{dtype}", "shape": [, ]'
    if not nested:
        return Coding(kind, 4, scale_bytes=4, group=BNB_BLOCK, flat=True, fixed=64, text=len(described) + 1)
    described += ', "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": }'
    return Coding(
        kind, 4, scale_bytes=1, group=BNB_BLOCK, flat=True, nested=BNB_NESTED, fixed=64 + 1024, text=len(described) + 19
    )


def fp8_coding(block: tuple[int, int] | None = None, static: bool = True, scale_bytes: int = 4) -> Coding:
    """fp8 with one scale per matrix or per block, and for static activations one scale of the input of the same width."""
    outputs, group = block or (ONE_MATRIX, ONE_MATRIX)
    return Coding(
        "fp8_block" if block else "fp8",
        scale_bytes=scale_bytes,
        group=group,
        outputs=outputs,
        fixed=scale_bytes * static,
    )


def nvfp4_coding(input_scale: bool = True) -> Coding:
    """NVFP4: an fp8 scale per 16 values, and in 4 bytes one scale of those and one of the input."""
    return Coding("nvfp4", 4, scale_bytes=1, group=16, outputs=1, fixed=4 + 4 * input_scale)


BNB8 = Coding("int8", scale_bytes=4, outputs=1, fixed=1)  # a scale per output, and one byte that names the layout
MXFP4 = Coding("mxfp4", 4, scale_bytes=1, group=32, outputs=1)
# three values in two bits, and one scale in 16 bits; four outputs share a byte
BITNET = Coding("bitnet", 2, scale_bytes=2)

CODINGS: Mapping[str, Coding] = {
    "fp8": fp8_coding(),
    "fp8_block": fp8_coding((128, 128), static=False),
    "int8": BNB8,
    "gptq": gptq_coding(),
    "awq": awq_coding(),
    "mxfp4": MXFP4,
    "nvfp4": nvfp4_coding(),
    "nf4": bnb4_coding(),
}
NF4_NOTE = "each matrix's description spells out a number of about 19 digits, so its size is exact to a few bytes"


def declared_format(architecture: Architecture) -> WeightFormat:
    """The weight format a configuration declares; raises `CannotAnswer` for a method or a field that is not described."""
    from advisor_mcp.formulas.quantization_configs import read

    return read(architecture)


def requested_format(architecture: Architecture, dtype: str | None, quantization: str | None) -> WeightFormat:
    """The format that the caller asks for, or the declared one where neither is given.

    A quantisation keeps what is not quantised in `dtype` (bf16 by default). Raises `UsageError` for fp8 as a dtype of
    weights together with another quantisation.
    """
    if quantization is None and dtype is None:
        return declared_format(architecture)
    kept = dtype or (architecture.dtype if architecture.dtype not in (None, "fp8") else "bf16") or "bf16"
    if quantization in (None, "none"):
        return WeightFormat("bf16", "fp8") if kept == "fp8" else WeightFormat(kept)
    if kept == "fp8":
        if not str(quantization).startswith("fp8"):
            raise UsageError(
                f"dtype fp8 and quantization {quantization} contradict each other; give the dtype of what is not quantised"
            )
        kept = "bf16"
    return _requested(architecture, kept, str(quantization))


def _requested(architecture: Architecture, kept: str, quantization: str) -> WeightFormat:
    if quantization in CODINGS:
        routed = quantization == "mxfp4" and any(t.role == "routed_experts" for _, t in architecture.tensors())
        note = NF4_NOTE if quantization == "nf4" else ""
        return WeightFormat(kept, quantization, only=("routed_experts",) if routed else (), note=note)
    from advisor_mcp.formulas.gguf_mixes import mix

    codings, note = mix(architecture, quantization)
    return WeightFormat("fp16", quantization, note=note, plan=Plan(codings, towers_apart=True))

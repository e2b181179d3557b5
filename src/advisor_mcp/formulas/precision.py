"""Bytes of number formats, and what each weight format stores beside the quantised values."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advisor_mcp.anatomy.inventory import Architecture, Sizes, Tensor
from advisor_mcp.errors import CannotAnswer, UsageError, shown

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1}
ALWAYS_KEPT = ("router", "lm_head", "token_embedding", "position_embedding", "vision")


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """How weights are stored: `kept_dtype` for what is not quantised, and `quantization` for the matrices that are.

    `group` are the values along the input that share a scale; `excluded` are patterns of module names that stay as they
    are; `only` limits quantisation to those roles.
    """

    kept_dtype: str
    quantization: str = "none"
    group: int = 0
    excluded: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    declared: bool = False

    def quantises(self, tensor: Tensor) -> bool:
        """Whether this tensor's values are stored quantised."""
        if self.quantization == "none" or not tensor.matrix or tensor.role in ALWAYS_KEPT:
            return False
        if self.only and tensor.role not in self.only:
            return False
        return not any(_matches(pattern, tensor.name) for pattern in self.excluded)


def _matches(pattern: str, name: str) -> bool:
    """Whether an exclude pattern names this tensor: a regular expression after 're:', a glob, or a part of its path."""
    if pattern.startswith("re:"):
        return re.search(pattern[3:], name) is not None
    if "*" in pattern:
        return fnmatch.fnmatchcase(name, f"*{pattern.strip('*')}*" if not pattern.endswith("*") else f"*{pattern}")
    return re.search(rf"(^|\.){re.escape(pattern)}(\.|$)", name) is not None


def matrix_bytes(tensor: Tensor, sizes: Sizes, fmt: WeightFormat) -> float:
    """Bytes of all copies of a quantised matrix with its scales and zero points.

    The last two axes are the matrix; copies and leading axes multiply it.
    """
    shape = [float(sizes[a]) if isinstance(a, str) else a for a in tensor.axes]
    copies = math.prod([*(float(sizes[a]) if isinstance(a, str) else a for a in tensor.copies), *shape[:-2]])
    rows, columns = shape[-2:]
    values = rows * columns
    return float(copies * _ENCODINGS[fmt.quantization](values, rows, columns, fmt.group))


def _grouped(bits: float, scale: float, group: int = 128, zeros: float = 0.0) -> Any:
    def encode(values: float, rows: float, columns: float, given: int) -> float:
        groups = rows * math.ceil(columns / (given or group)) if given >= 0 else rows
        return values * bits / 8 + groups * (scale + zeros)

    return encode


_ENCODINGS: Mapping[str, Any] = {
    # one fp32 scale for the weight and one for its input
    "fp8": lambda values, rows, columns, group: values + 8,
    "fp8_block": lambda values, rows, columns, group: values + 4 * math.ceil(rows / 128) * math.ceil(columns / 128),
    "int8": lambda values, rows, columns, group: values + 4 * rows,
    "gptq": _grouped(4, 2, zeros=0.5),
    "awq": _grouped(4, 2, zeros=0.5),
    "mxfp4": lambda values, rows, columns, group: values / 2 + values / 32,
    "nvfp4": lambda values, rows, columns, group: values / 2 + values / 16 + 8,
    "nf4": lambda values, rows, columns, group: values / 2 + values / 64 + 4 * values / 64 / 256,
    # three values in two bits, four outputs to a byte, and one scale in 16 bits
    "bitnet": lambda values, rows, columns, group: math.ceil(rows / 4) * columns + 2,
}


def weight_bytes(architecture: Architecture, sizes: Sizes, fmt: WeightFormat) -> float:
    """Bytes of all weights at these sizes, one rank's when `sizes` are placed."""
    return sum(block.repeat * tensor_bytes(tensor, sizes, fmt) for block, tensor in architecture.tensors())


def checkpoint_bytes(architecture: Architecture, fmt: WeightFormat) -> int:
    """Bytes of everything the checkpoint stores, what it holds beside the model included, file headers aside."""
    sizes = architecture.bound()
    return int(sum(block.repeat * tensor_bytes(tensor, sizes, fmt) for block, tensor in architecture.stored()))


def tensor_bytes(tensor: Tensor, sizes: Sizes, fmt: WeightFormat) -> float:
    """Bytes of all copies of one tensor."""
    if fmt.quantises(tensor):
        return matrix_bytes(tensor, sizes, fmt)
    return float(tensor.elements(sizes) * BYTES[tensor.dtype or fmt.kept_dtype])


def declared_format(architecture: Architecture) -> WeightFormat:
    """The weight format a configuration declares; raises `CannotAnswer` for a method that is not known."""
    kept = architecture.dtype or "bf16"
    declared = architecture.quantization
    if declared is None:
        if kept == "fp8":
            raise CannotAnswer(
                "the configuration's dtype is fp8 but it has no quantization_config", needs=["quantization_config"]
            )
        return WeightFormat(kept, declared=architecture.dtype is not None)
    method = str(declared.get("quant_method") or declared.get("quant_algo") or "").lower()
    excluded = _patterns(declared)
    if method not in _METHODS:
        raise CannotAnswer(
            f"the quantisation method {shown(method)} of the configuration is not described", needs=["quantization"]
        )
    name, group = _METHODS[method](declared)
    return WeightFormat(kept, name, group, excluded, ("routed_experts",) if name == "mxfp4" else (), declared=True)


def _patterns(declared: Mapping[str, Any]) -> tuple[str, ...]:
    found: Iterable[Any] = ()
    for name in ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers"):
        if isinstance(declared.get(name), Sequence) and not isinstance(declared[name], str):
            found = declared[name]
            break
    return tuple(str(pattern) for pattern in found)


def _fp8(declared: Mapping[str, Any]) -> tuple[str, int]:
    block = declared.get("weight_block_size")
    if block in (None, []):
        return "fp8", 0
    if block != [128, 128]:
        raise CannotAnswer(f"fp8 blocks of {shown(block)} are not described; known is [128, 128]")
    return "fp8_block", 0


def _bits4(name: str) -> Any:
    def read(declared: Mapping[str, Any]) -> tuple[str, int]:
        bits, group = (
            declared.get("bits", declared.get("w_bit", 4)),
            declared.get("group_size", declared.get("q_group_size", 128)),
        )
        if bits == 8 and name == "gptq":
            return "int8", 0
        if bits != 4 or not isinstance(group, int):
            raise CannotAnswer(
                f"{name} with {shown(bits)} bits and groups of {shown(group)} is not described", needs=["quantization"]
            )
        return name, group

    return read


def _compressed(declared: Mapping[str, Any]) -> tuple[str, int]:
    """compressed-tensors: one group of linear layers, by its weights' type and bits."""
    groups = declared.get("config_groups")
    first: Any = next(iter(groups.values()), {}) if isinstance(groups, Mapping) else {}
    weights = first.get("weights") if isinstance(first, Mapping) else None
    if not isinstance(weights, Mapping):
        raise CannotAnswer(
            "the compressed-tensors configuration does not say how weights are stored",
            needs=["config_groups.*.weights"],
        )
    kind = (weights.get("type"), weights.get("num_bits"))
    group = weights.get("group_size") if isinstance(weights.get("group_size"), int) else 0
    names = {("float", 8): "fp8", ("int", 8): "int8", ("int", 4): "gptq", ("float", 4): "nvfp4"}
    if kind not in names:
        raise CannotAnswer(f"compressed-tensors weights of {shown(kind)} are not described", needs=["quantization"])
    return names[kind], int(group or 0)


def _bitsandbytes(declared: Mapping[str, Any]) -> tuple[str, int]:
    return ("int8", 0) if declared.get("load_in_8bit") else ("nf4", 0)


_METHODS: Mapping[str, Any] = {
    "fp8": _fp8,
    "fbgemm_fp8": lambda declared: ("fp8", 0),
    "modelopt": lambda declared: _modelopt(declared),
    "nvfp4": lambda declared: ("nvfp4", 0),
    "mxfp4": lambda declared: ("mxfp4", 0),
    "gptq": _bits4("gptq"),
    "awq": _bits4("awq"),
    "compressed-tensors": _compressed,
    "bitsandbytes": _bitsandbytes,
    "bitnet": lambda declared: _bitnet(declared),
}


def _bitnet(declared: Mapping[str, Any]) -> tuple[str, int]:
    """BitNet files hold packed weights, except those that are to be quantised at each use."""
    online = declared.get("quantization_mode") == "online" and declared.get("linear_class") == "autobitlinear"
    return ("none" if online else "bitnet"), 0


def _modelopt(declared: Mapping[str, Any]) -> tuple[str, int]:
    names = {"FP8": "fp8", "NVFP4": "nvfp4"}
    algorithm = str(declared.get("quant_algo"))
    if algorithm not in names:
        raise CannotAnswer(
            f"the quant_algo {shown(algorithm)} of the configuration is not described", needs=["quantization"]
        )
    return names[algorithm], 0


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
    if quantization == "mxfp4" and any(t.role == "routed_experts" for _, t in architecture.tensors()):
        return WeightFormat(kept, "mxfp4", only=("routed_experts",))
    return WeightFormat(kept, str(quantization))

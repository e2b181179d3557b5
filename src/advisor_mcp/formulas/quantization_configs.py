"""What a configuration's quantization_config says: which modules are quantised, and how each is stored.

Fields are read as transformers 5.23.0 (utils/quantization_config.py, quantizers/), GPTQModel, compressed-tensors and
TensorRT Model Optimizer write and read them. A method or a field that bears on bytes and is not described is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.errors import CannotAnswer, shown
from advisor_mcp.formulas.precision import (
    ALWAYS_KEPT,
    BITNET,
    BNB8,
    BYTES,
    EMBEDDED,
    MXFP4,
    NF4_NOTE,
    ONE_MATRIX,
    Coding,
    Names,
    WeightFormat,
    awq_coding,
    bnb4_coding,
    fp8_coding,
    gptq_coding,
    nvfp4_coding,
    plan,
)

EXCLUDING = ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers", "llm_int8_skip_modules")
LINEAR_CLASSES = ("Linear", "LinearBase")
EXPERT_CLASSES = ("FusedMoE", "RoutedExperts")
EXPERT_ROLES = Names(["experts"])
FP32 = Coding("fp32", 32, word=0)
DTYPE_NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
HEAD_KEPT = EMBEDDED | {"lm_head", "other"}  # towers count where the configuration does not exclude them
# Qwen's and Mistral's own fp8 files hold scales in the model's dtype: Qwen3-32B-FP8 has no fp32 value at all
OWN_SCALES = ("qwen", "ministral", "mistral")
WIDE_ROLES = {"minimax_m2": "router"}  # MiniMax-M2's 230,121,630,720 bytes hold its routers in fp32
UE8M0_NOTE = "scale_fmt ue8m0: scales are taken as 4 bytes each, rounded to powers of two but stored as fp32"
FP4_NOTE = "experts are taken as fp4, which DeepSeek-V4's configurations say outside of their quantization_config"
CACHE_NOTE = "the scales of an fp8 cache are taken as one for keys and one for values of each attention layer"
ALIASES = {"modelopt_fp4": "modelopt", "modelopt_mixed": "modelopt", "compressed_tensors": "compressed-tensors"}


@dataclass(frozen=True)
class Scheme:
    """What a method's reader found: rules in order, roles that stay, and what else the answer has to say or count."""

    name: str
    rules: Sequence[tuple[Names | None, Coding]] = ()
    kept: frozenset[str] = ALWAYS_KEPT
    excluded: Sequence[Any] = ()
    note: str = ""
    extra_bytes: int = 0


def read(architecture: Architecture) -> WeightFormat:
    """The weight format a configuration declares; raises `CannotAnswer` for a method or a field that is not described."""
    kept = architecture.dtype or "bf16"
    declared = architecture.quantization
    if declared is None:
        if kept == "fp8":
            raise CannotAnswer(
                "the configuration's dtype is fp8 but it has no quantization_config", needs=["quantization_config"]
            )
        return WeightFormat(kept, declared=architecture.dtype is not None)
    if kept == "fp8":
        kept = "bf16"
    found = _method(declared)(architecture, _flattened(declared), kept)
    excluded = Names([*_excluded(_flattened(declared)), *found.excluded])
    how = plan(architecture, found.rules, excluded, found.kept)
    wide = WIDE_ROLES.get(architecture.family)
    how.parts.update({t: ((FP32, 1),) for _, t in architecture.stored() if t.role == wide})
    return WeightFormat(kept, found.name, declared=True, note=found.note, plan=how, extra_bytes=found.extra_bytes)


Reader = Callable[[Architecture, Mapping[str, Any], str], Scheme]


def _method(declared: Mapping[str, Any]) -> Reader:
    inner = _flattened(declared)
    given = inner.get("quant_method") or ("modelopt" if inner.get("quant_algo") else "")
    method = ALIASES.get(str(given).lower(), str(given).lower())
    if method not in METHODS:
        raise CannotAnswer(
            f"the quantisation method {shown(given)} of the configuration is not described", needs=["quantization"]
        )
    return METHODS[method]


def _flattened(declared: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a quantization_config, those that Model Optimizer nests under `quantization` included."""
    nested = declared.get("quantization")
    return {**declared, **nested} if isinstance(nested, Mapping) else declared


def _excluded(declared: Mapping[str, Any]) -> list[Any]:
    lists = (declared.get(name) for name in EXCLUDING)
    return [pattern for found in lists if isinstance(found, list | tuple) for pattern in found if pattern]


def _refuse(what: str, value: Any) -> CannotAnswer:
    return CannotAnswer(f"{what} {shown(value)} of the quantization_config is not described", needs=["quantization"])


def _whole(declared: Mapping[str, Any], default: int, *names: str) -> int:
    for name in names:
        value = declared.get(name)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool) or not (-1 <= value < 2**31) or value == 0:
                raise _refuse(f"the {name}", value)
            return value
    return default


def _fp8(architecture: Architecture, declared: Mapping[str, Any], kept: str) -> Scheme:
    block, activations = declared.get("weight_block_size"), declared.get("activation_scheme", "dynamic")
    if activations not in ("dynamic", "static"):
        raise _refuse("the activation_scheme", activations)
    if declared.get("modules_to_convert"):
        raise _refuse("modules_to_convert", declared["modules_to_convert"])
    scales = declared.get("scale_fmt") or "float"
    if scales not in ("float", "ue8m0"):
        raise _refuse("the scale_fmt", scales)
    newest = architecture.family.startswith("deepseek_v4")
    experts = declared.get("expert_dtype") or ("fp4" if newest else "fp8")
    if experts not in ("fp8", "fp4"):
        raise _refuse("the expert_dtype", experts)
    narrow = scales == "ue8m0" and newest
    own = architecture.family.startswith(OWN_SCALES)
    coding = fp8_coding(
        _block(block), static=activations == "static", scale_bytes=1 if narrow else BYTES[kept] if own else 4
    )
    rules: list[tuple[Names | None, Coding]] = [(None, coding)]
    if experts == "fp4":
        rules.insert(0, (EXPERT_ROLES, MXFP4))
    note = UE8M0_NOTE if scales == "ue8m0" and not narrow else ""
    if newest and not declared.get("expert_dtype"):
        note = FP4_NOTE
    kept_roles = HEAD_KEPT if _excluded(declared) else ALWAYS_KEPT
    return Scheme(coding.name, rules, kept_roles, note=note)


def _block(given: Any) -> tuple[int, int] | None:
    """The outputs and inputs of one fp8 block; None where a matrix is one block."""
    if given in (None, [], ()):
        return None
    whole = isinstance(given, list | tuple) and len(given) == 2
    if not whole or not all(isinstance(n, int) and not isinstance(n, bool) and 0 < n < 2**31 for n in given):
        raise _refuse("the weight_block_size", given)
    return int(given[0]), int(given[1])


def _fbgemm(architecture: Architecture, declared: Mapping[str, Any], kept: str) -> Scheme:
    return Scheme("fp8", [(None, Coding("fp8", scale_bytes=4, outputs=1))])


def _mxfp4(architecture: Architecture, declared: Mapping[str, Any], kept: str) -> Scheme:
    """The experts alone: what the method leaves out is every other linear layer, whether listed or not."""
    roles = {tensor.role for _, tensor in architecture.stored()} - {"routed_experts"}
    return Scheme("mxfp4", [(None, MXFP4)], frozenset(roles) | ALWAYS_KEPT)


def _bitsandbytes(architecture: Architecture, declared: Mapping[str, Any], kept: str) -> Scheme:
    in8, in4 = declared.get("load_in_8bit", False), declared.get("load_in_4bit", False)
    if in8 and in4:
        raise _refuse("load_in_8bit together with load_in_4bit", True)
    if in8:
        if declared.get("llm_int8_has_fp16_weight"):
            raise _refuse("llm_int8_has_fp16_weight", True)
        return Scheme("int8", [(None, BNB8)], HEAD_KEPT)
    if not in4:
        raise _refuse("load_in_4bit", in4)
    kind, nested = declared.get("bnb_4bit_quant_type", "fp4"), bool(declared.get("bnb_4bit_use_double_quant"))
    if kind not in ("nf4", "fp4"):
        raise _refuse("the bnb_4bit_quant_type", kind)
    coding = bnb4_coding(kind, nested, DTYPE_NAMES.get(kept, kept))
    return Scheme(kind, [(None, coding)], HEAD_KEPT, note=NF4_NOTE if nested else "")


def _bitnet(architecture: Architecture, declared: Mapping[str, Any], kept: str) -> Scheme:
    """BitNet files hold packed weights, except those that are to be quantised at each use."""
    mode, layer = declared.get("quantization_mode", "offline"), declared.get("linear_class", "bitlinear")
    if mode not in ("offline", "online") or layer not in ("bitlinear", "autobitlinear"):
        raise _refuse("the quantization_mode with linear_class", [mode, layer])
    if mode == "online" and layer == "autobitlinear":
        return Scheme("none")
    return Scheme("bitnet", [(None, BITNET)])


def _gptq(architecture: Architecture, declared: Mapping[str, Any], kept: str) -> Scheme:
    form = str(declared.get("checkpoint_format") or declared.get("format") or "gptq").lower()
    if form not in ("gptq", "gptq_v2"):
        raise _refuse("the GPTQ format", form)
    bits, group = _gptq_bits(declared), _whole(declared, 128, "group_size")
    rules: list[tuple[Names | None, Coding]] = []
    excluded: list[Any] = []
    overrides = declared.get("dynamic")
    for pattern, change in overrides.items() if isinstance(overrides, Mapping) else ():
        if str(pattern).startswith("-:"):
            excluded.append(f"re:{pattern[2:]}")
        elif isinstance(change, Mapping):
            each = {"bits": bits, "group_size": group, **change}
            coding = gptq_coding(_gptq_bits(each), _whole(each, group, "group_size"))
            rules.append((Names([f"re:{str(pattern).removeprefix('+:')}"]), coding))
    only = declared.get("modules_in_block_to_quantize")
    if isinstance(only, list) and only:
        inner = [name for each in only for name in (each if isinstance(each, list) else [each])]
        rules.append((Names(inner), gptq_coding(bits, group)))
    else:
        rules.append((None, gptq_coding(bits, group)))
    kept_roles = ALWAYS_KEPT - {"lm_head"} if declared.get("lm_head") is True else ALWAYS_KEPT
    return Scheme("gptq", rules, kept_roles, excluded)


def _gptq_bits(declared: Mapping[str, Any]) -> int:
    bits = declared.get("bits", 4)
    if bits not in (2, 3, 4, 8):
        raise CannotAnswer(f"gptq with {shown(bits)} bits is not described", needs=["quantization"])
    return int(bits)


def _awq(architecture: Architecture, declared: Mapping[str, Any], kept: str) -> Scheme:
    bits = declared.get("bits", declared.get("w_bit", 4))
    form = str(declared.get("version") or declared.get("format") or "gemm").lower()
    if bits != 4 or form != "gemm":
        raise CannotAnswer(
            f"awq with {shown(bits)} bits in the layout {shown(form)} is not described; known is 4 bits in gemm",
            needs=["quantization"],
        )
    coding = awq_coding(_whole(declared, 128, "group_size", "q_group_size"))
    return Scheme("awq", [(None, coding)])


def _compressed(architecture: Architecture, declared: Mapping[str, Any], kept: str) -> Scheme:
    """compressed-tensors: groups of modules, each with a scheme of its own; a module not named stays as it is."""
    sparsity = declared.get("sparsity_config")
    if isinstance(sparsity, Mapping) and sparsity.get("format") not in (None, "dense"):
        raise _refuse("the sparsity_config format", sparsity.get("format"))
    groups = declared.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        raise CannotAnswer(
            "the compressed-tensors configuration does not say how weights are stored",
            needs=["config_groups.*.weights"],
        )
    rules: list[tuple[Names | None, Coding]] = []
    for group in groups.values():
        coding = _compressed_coding(group if isinstance(group, Mapping) else {}, declared.get("format"), kept)
        rules += [(names, coding) for names in _targets(group)]
    rules.sort(key=lambda rule: rule[0] is None)  # a name goes before a class of layers
    extra, note = _cache_scales(architecture, declared, BYTES[kept])
    return Scheme(_joined(rules), rules, EMBEDDED, note=note, extra_bytes=extra)


def _joined(rules: Sequence[tuple[Names | None, Coding]]) -> str:
    return " + ".join(dict.fromkeys(coding.name for _, coding in rules))


def _targets(group: Mapping[str, Any]) -> list[Names | None]:
    targets = group.get("targets", ["Linear"])
    if not isinstance(targets, list):
        raise _refuse("the targets", targets)
    classes = [t for t in targets if isinstance(t, str) and t.isidentifier() and t[:1].isupper()]
    if unknown := [t for t in classes if t not in (*LINEAR_CLASSES, *EXPERT_CLASSES)]:
        raise _refuse("the target", unknown[0])
    named = Names(t for t in targets if t not in classes)
    found: list[Names | None] = [named] if named else []
    if any(t in EXPERT_CLASSES for t in classes):
        found.append(EXPERT_ROLES)
    return [*found, None] if any(t in LINEAR_CLASSES for t in classes) else found


FORMATS = (
    "dense", "pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "nvfp4-pack-quantized",
    "mxfp4-pack-quantized", "mixed-precision",
)  # fmt: skip


def _compressed_coding(group: Mapping[str, Any], outer: Any, kept: str) -> Coding:
    weights, inputs = group.get("weights"), group.get("input_activations")
    if not isinstance(weights, Mapping):
        raise CannotAnswer(
            "the compressed-tensors configuration does not say how weights are stored",
            needs=["config_groups.*.weights"],
        )
    form = group.get("format") or outer
    if form is not None and form not in FORMATS:
        raise _refuse("the format", form)
    if group.get("output_activations") is not None:
        raise _refuse("output_activations", group["output_activations"])
    kind = (str(weights.get("type", "int")), weights.get("num_bits", 8))
    static = isinstance(inputs, Mapping) and inputs.get("dynamic", False) is False
    if kind == ("float", 4):
        return _compressed_fp4(weights, isinstance(inputs, Mapping) and inputs.get("dynamic", False) is not True)
    if kind not in (("float", 8), ("int", 8), ("int", 4)):
        raise CannotAnswer(f"compressed-tensors weights of {shown(kind)} are not described", needs=["quantization"])
    whole = weights.get("type", "int") == "int"
    packed = form == "pack-quantized" or (form in (None, "mixed-precision") and whole and inputs is None)
    return _compressed_8_or_4(weights, kind, packed, static, inputs, BYTES[kept])


def _compressed_fp4(weights: Mapping[str, Any], input_scale: bool) -> Coding:
    group = weights.get("group_size", 16)
    if group == 16:
        return nvfp4_coding(input_scale)
    if group == 32:
        return MXFP4
    raise _refuse("the group_size of 4-bit floats", group)


def _compressed_8_or_4(
    weights: Mapping[str, Any], kind: tuple[str, Any], packed: bool, static: bool, inputs: Any, width: int
) -> Coding:
    group, outputs, name = _grain(weights)
    symmetric = weights.get("symmetric", True) is not False
    bits = kind[1] if packed else 8
    fixed = (16 if packed else 0) + (width if static else 0)  # the shape as two int64, and the input's scale
    if static and isinstance(inputs, Mapping) and inputs.get("symmetric", True) is False:
        fixed += 1
    label = {("float", 8): "fp8", ("int", 8): "int8", ("int", 4): "int4"}[kind]
    return Coding(
        f"{label}{name}", bits, 4 if packed else 1, scale_bytes=width, group=group, outputs=outputs,
        zero_bits=0 if symmetric else bits, per_input=4 if weights.get("actorder") == "group" else 0, fixed=fixed,
    )  # fmt: skip


def _grain(weights: Mapping[str, Any]) -> tuple[int, int, str]:
    """The inputs and outputs that share a scale, and a word for it, from a scheme's strategy."""
    size = weights.get("group_size")
    strategy = weights.get("strategy") or ("group" if isinstance(size, int) and size > 0 else "tensor")
    if strategy == "group" and size == -1:
        strategy = "channel"
    if strategy == "tensor":
        return ONE_MATRIX, ONE_MATRIX, ""
    if strategy == "channel":
        return ONE_MATRIX, 1, ""
    if strategy == "group" and isinstance(size, int) and size > 0:
        return size, 1, ""
    block = weights.get("block_structure")
    if isinstance(block, str):
        block = [int(n) if n.isdecimal() else n for n in block.split("x")]
    if strategy == "block" and (found := _block(block)):
        return found[1], found[0], "_block"
    raise _refuse("the strategy", strategy)


def _cache_scales(architecture: Architecture, declared: Mapping[str, Any], width: int) -> tuple[int, str]:
    """Bytes of the scales of keys and values that a quantised cache needs, and what to say of them."""
    scheme = declared.get("kv_cache_scheme")
    named = str(declared.get("kv_cache_quant_algo") or "").upper()
    static = isinstance(scheme, Mapping) and scheme.get("dynamic", False) is False
    if not static and named != "FP8":
        return 0, ""
    layers = sum(
        block.repeat
        for block in (*architecture.blocks, *architecture.beside)
        if block.tower is None and any(t.role == "attention" and "v_proj" in t.name for t in block.tensors)
    )
    return 2 * width * layers, CACHE_NOTE


def _modelopt(architecture: Architecture, declared: Mapping[str, Any], kept: str) -> Scheme:
    algorithm = str(declared.get("quant_algo") or "").upper()
    extra, note = _cache_scales(architecture, declared, 4)
    listed = declared.get("quantized_layers")
    if algorithm == "MIXED_PRECISION" or (not algorithm and isinstance(listed, Mapping)):
        rules = _listed(listed)
        return Scheme(_joined(rules), rules, EMBEDDED, note=note, extra_bytes=extra)
    coding = _modelopt_coding(algorithm, declared)
    return Scheme(coding.name, [(None, coding)], EMBEDDED, note=note, extra_bytes=extra)


def _listed(listed: Any) -> list[tuple[Names | None, Coding]]:
    """Rules of Model Optimizer's quantized_layers: the layers of each algorithm by name."""
    if not isinstance(listed, Mapping) or not listed:
        raise CannotAnswer(
            "the configuration quantises layers differently and does not list them", needs=["quantized_layers"]
        )
    by_coding: dict[Coding, list[str]] = {}
    for name, how in listed.items():
        how = how if isinstance(how, Mapping) else {"quant_algo": how}
        by_coding.setdefault(_modelopt_coding(str(how.get("quant_algo") or "").upper(), how), []).append(str(name))
    return [(Names(names), coding) for coding, names in by_coding.items()]


def _modelopt_coding(algorithm: str, declared: Mapping[str, Any]) -> Coding:
    """Every scale beside fp8's own is fp32; W4A16 keeps activations as they are and needs no scale of them."""
    if algorithm in ("NVFP4", "W4A16_NVFP4"):
        if _whole(declared, 16, "group_size") != 16:
            raise _refuse("the group_size of NVFP4", declared.get("group_size"))
        return nvfp4_coding(algorithm == "NVFP4")
    if algorithm == "FP8":
        return fp8_coding()
    if algorithm == "FP8_PER_CHANNEL_PER_TOKEN":
        return Coding("fp8", scale_bytes=4, outputs=1)
    raise CannotAnswer(
        f"the quant_algo {shown(algorithm)} of the configuration is not described", needs=["quantization"]
    )


METHODS: Mapping[str, Reader] = {
    "fp8": _fp8,
    "fbgemm_fp8": _fbgemm,
    "modelopt": _modelopt,
    "mxfp4": _mxfp4,
    "gptq": _gptq,
    "awq": _awq,
    "compressed-tensors": _compressed,
    "bitsandbytes": _bitsandbytes,
    "bitnet": _bitnet,
}

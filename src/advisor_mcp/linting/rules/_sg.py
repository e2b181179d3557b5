"""What the rules on SGLang share: its sizes under all their names, and whether attention is data-parallel."""

from __future__ import annotations

from advisor_mcp.linting.unit import Setting, Unit, as_whole

TENSOR = ("tp_size", "tensor_parallel_size", "tp")
PIPELINE = ("pp_size", "pipeline_parallel_size", "pp")
DATA = ("dp_size", "data_parallel_size", "dp")
EXPERT = ("ep_size", "expert_parallel_size", "ep")
ALGORITHM = ("speculative_algorithm", "speculative_algo")
BACKENDS = ("attention_backend", "decode_attention_backend", "prefill_attention_backend")


def size(unit: Unit, names: tuple[str, ...], default: int = 1) -> int | None:
    """A size under any of its names; `default` where it is not set, None where it is not known."""
    found = unit.setting(*names)
    return default if found is None else as_whole(found.value)


def attention_groups(unit: Unit) -> int | None:
    """How many data-parallel groups attention is split into; 1 where it is not, None where that is not known."""
    if "attn_dp_size" in unit:
        return size(unit, ("attn_dp_size",))
    on = unit.truth("enable_dp_attention", False)
    return None if on is None else size(unit, DATA) if on else 1


def algorithm(unit: Unit) -> tuple[Setting | None, str]:
    """The setting that turns speculation on, and the algorithm in capitals; empty where there is none or it is not known."""
    setting = unit.setting(*ALGORITHM)
    value = setting.value if setting is not None else None
    name = value.upper() if isinstance(value, str) else ""
    return setting, "EAGLE" if name == "NEXTN" else name


def backends(unit: Unit) -> dict[str, Setting]:
    """Attention backends that were named, with the settings that name them."""
    found = (unit.setting(name) for name in BACKENDS)
    return {s.value: s for s in found if s is not None and isinstance(s.value, str)}

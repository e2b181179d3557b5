"""What the rules on llama.cpp share: its options by all their spellings."""

from __future__ import annotations

from advisor_mcp.linting.unit import Setting, Unit

CONTEXT = ("ctx_size", "c")
SLOTS = ("parallel", "np")
BATCH, STEP = ("batch_size", "b"), ("ubatch_size", "ub")
FLASH = ("flash_attn", "fa")
KEYS, VALUES = ("cache_type_k", "ctk"), ("cache_type_v", "ctv")
LAYERS = ("n_gpu_layers", "gpu_layers", "ngl")
SPLIT, SHARES, MAIN = ("split_mode", "sm"), ("tensor_split", "ts"), ("main_gpu", "mg")
UNIFIED = ("kv_unified", "kvu", "kv_unified_per_slot")
EMBEDDING = ("embedding", "embeddings", "reranking", "rerank")
QUANTISED = ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl")


def number(unit: Unit, names: tuple[str, ...], default: float | None = None) -> float | None:
    """The number of an option under any of its spellings; `default` where it is not set, None where it is not known."""
    found = unit.setting(*names)
    return unit.number(found.name) if found is not None else default


def word(unit: Unit, names: tuple[str, ...], default: str = "") -> str | None:
    """The value of an option in lower case; `default` where it is not set, None where it is not known."""
    found = unit.setting(*names)
    if found is None:
        return default
    value = unit.text(found.name)
    return value.lower() if value is not None else None


def attention_off(unit: Unit) -> Setting | None:
    """The setting that turns flash attention off, if one does."""
    found = unit.setting(*FLASH)
    off = found is not None and str(found.value).lower() in ("off", "disabled", "false", "0")
    return found if off else None

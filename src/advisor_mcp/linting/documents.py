"""From the tree of a configuration file to units: which tool it is for, by its keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from advisor_mcp.linting import anchors, commands, manifests
from advisor_mcp.linting.anchors import Anchor
from advisor_mcp.linting.options import table
from advisor_mcp.linting.source import SourceFile
from advisor_mcp.linting.tree import Mapping, Syntax, at, walk
from advisor_mcp.linting.unit import Setting, Unit, flatten, from_tree, scalar_text

LAST_TITAN_WITH_TOML = "0.2.2"  # 0.3 is configured in Python
Recogniser: TypeAlias = Callable[[Mapping, Syntax], list[Unit] | None]


def units_of_document(document: Mapping, syntax: Syntax) -> list[Unit]:
    """The units of a document: those of the first recogniser that knows it, none where nobody does."""
    return next((found for recognise in RECOGNISERS if (found := recognise(document, syntax)) is not None), [])


def is_model_config(document: Mapping) -> bool:
    """Whether it is a model's config.json."""
    named = document.get("model_type") is not None and document.get("hidden_size") is not None
    return named or document.get("architectures") is not None


def _keys(document: Mapping) -> set[str]:
    return {entry.name.replace("-", "_") for entry in document.entries}


def _sections(document: Mapping) -> set[str]:
    return {entry.name for entry in document.entries if isinstance(entry.value, Mapping)}


def _inner(document: Mapping, name: str) -> set[str]:
    found = document.get(name)
    return _keys(found) if isinstance(found, Mapping) else set()


def _dashed(unit: Unit) -> Unit:
    """Keys with dashes under the tool's canonical names, which have underscores."""
    unit.settings = {name.replace("-", "_"): setting for name, setting in unit.settings.items()}
    return unit


def _by(anchor: Anchor) -> Recogniser:
    def recognise(document: Mapping, syntax: Syntax) -> list[Unit] | None:
        if not anchor.fits(_keys(document)):
            return None
        return [_dashed(from_tree(anchor.tool, document, syntax, anchor.scope))]

    return recognise


# ---- manifests ----


def _kubernetes(document: Mapping, syntax: Syntax) -> list[Unit] | None:
    return manifests.kubernetes(document, syntax) if {"apiVersion", "kind"} <= _keys(document) else None


def _compose(document: Mapping, syntax: Syntax) -> list[Unit] | None:
    services = document.get("services")
    if not isinstance(services, Mapping):
        return None
    looks = any({"image", "command", "build"} & _inner(services, entry.name) for entry in services.entries)
    return manifests.compose(document, syntax) if looks else None


def _helm(document: Mapping, syntax: Syntax) -> list[Unit] | None:
    return manifests.helm(document, syntax) if isinstance(document.get("servingEngineSpec"), Mapping) else None


def _llama_swap(document: Mapping, syntax: Syntax) -> list[Unit] | None:
    models = document.get("models")
    looks = isinstance(models, Mapping) and any(at(entry.value, "cmd") is not None for entry in models.entries)
    return manifests.llama_swap(document, syntax) if looks else None


def _srt_slurm(document: Mapping, syntax: Syntax) -> list[Unit] | None:
    looks = any(key.endswith("_config") for key in _inner(document, "backend"))
    return manifests.srt_slurm(document, syntax) if looks else None


# ---- trainers ----


def _torchtune(document: Mapping, syntax: Syntax) -> list[Unit] | None:
    if any(path[-1] == "_component_" for path, _ in walk(document)):
        return [from_tree("torchtune", document, syntax, "recipe")]
    return None


def _torchtitan(document: Mapping, syntax: Syntax) -> list[Unit] | None:
    sections = _sections(document)
    titan = len(sections & anchors.TITAN_SECTIONS) >= 2 if syntax == "toml" else "parallelism" in sections
    if not titan or not sections & anchors.TITAN_SECTIONS:
        return None
    unit = from_tree("torchtitan", document, syntax)
    unit.target = LAST_TITAN_WITH_TOML if syntax == "toml" else None
    return [unit]


def _megatron_tests(document: Mapping, syntax: Syntax) -> list[Unit] | None:
    """A file that lists a Megatron job's arguments under MODEL_ARGS and its environment under ENV_VARS."""
    arguments = document.get("MODEL_ARGS")
    if not isinstance(arguments, Mapping):
        return None
    settings: dict[str, Setting] = {}
    for path, setting in flatten(arguments, syntax).items():
        name = path.lstrip("-").replace("-", "_")
        settings[name] = replace(setting, name=name)
    env = manifests.environment(document.get("ENV_VARS"), syntax)
    unit = Unit("megatron-lm", document.source, document.entries[0].key.span, "", arguments, settings, env)
    extra = commands.env_unit(document.source, env)
    return [*([extra] if extra else []), unit]


def _megatron_sections(document: Mapping, syntax: Syntax) -> list[Unit] | None:
    model, train = _inner(document, "model"), _inner(document, "train")
    megatron = model & {"tensor_model_parallel_size", "pipeline_model_parallel_size"}
    if "trainer" in _sections(document) and (megatron or "micro_batch_size" in model):
        return [from_tree("nemo", document, syntax)]
    nested = megatron or train & {"train_iters", "global_batch_size"}
    return (
        [from_tree("megatron-bridge", document, syntax)]
        if nested and _keys(document) & anchors.BRIDGE_SECTIONS
        else None
    )


def _llm_foundry(document: Mapping, syntax: Syntax) -> list[Unit] | None:
    keys = _keys(document)
    looks = "train_loader" in keys and keys & {"max_duration", "fsdp_config"}
    return [from_tree("llm-foundry", document, syntax)] if looks else None


def _litgpt(document: Mapping, syntax: Syntax) -> list[Unit] | None:
    train = _inner(document, "train")
    looks = train & {"micro_batch_size", "global_batch_size"} and (
        train & anchors.LITGPT_TRAIN or _keys(document) & anchors.LITGPT_SCRIPT
    )
    return [from_tree("litgpt", document, syntax)] if looks else None


def _deepspeed(document: Mapping, syntax: Syntax) -> list[Unit] | None:
    keys, sections = _keys(document), _sections(document)
    if keys & {"output_dir", "model_name_or_path", "base_model"}:
        return None
    common = keys & anchors.DEEPSPEED_COMMON and sections & {"optimizer", "scheduler"}
    looks = keys & anchors.DEEPSPEED_KEYS or sections & anchors.DEEPSPEED_SECTIONS or common
    return [from_tree("deepspeed", document, syntax)] if looks else None


def _peft(document: Mapping, syntax: Syntax) -> list[Unit] | None:
    """An adapter's `adapter_config.json`; its `peft_type` names the class of its options."""
    kind = scalar_text(document.get("peft_type"))
    return [from_tree("peft", document, syntax, kind.lower())] if kind else None


def _hugging_face(document: Mapping, syntax: Syntax) -> list[Unit] | None:
    keys = _keys(document)
    anchored = keys & anchors.HF
    others = keys & (anchors.TRL_MODEL | {"model_name_or_path", "fp16", "bf16", "learning_rate"})
    if not anchored or not (len(anchored) >= 2 or others or ("output_dir" in keys and _knows_transformers(keys))):
        return None
    method = trl_method(document.source, keys)
    tool, scope = ("trl", method) if method else ("hf_trainer", "TrainingArguments")
    found = [from_tree(tool, document, syntax, scope)]
    inline = document.get("deepspeed")
    if isinstance(inline, Mapping):
        found.append(from_tree("deepspeed", inline, syntax))
        found[-1].launcher = found[0]
    return found


def _knows_transformers(keys: set[str]) -> bool:
    known = table("transformers")
    return any(known.history("TrainingArguments", key) for key in keys - {"output_dir"})


_COMMENT = re.compile(r"#.*?\btrl\b\W*(sft|dpo|grpo|kto|orpo|cpo|rloo|ppo|reward|gkd|online_dpo)\b", re.IGNORECASE)
_FOLDERS = ("sft", "dpo", "grpo", "orpo", "kto", "cpo", "rloo")


def trl_method(source: SourceFile, keys: set[str]) -> str | None:
    """Which TRL trainer a file is for: a comment that says so, its folders' names, or options that only one has."""
    said = _COMMENT.search(source.text[:2000])
    if said:
        return said[1].lower()
    for part in reversed(re.split(r"[/\\]|__", source.name.lower())):
        if part in _FOLDERS:
            return part if keys & (anchors.TRL_MODEL | {"model_name_or_path"}) else None
    scores = {method: len(keys & own) for method, own in anchors.TRL.items()}
    best = max(scores, key=lambda method: scores[method])
    return best if scores[best] and (scores[best] > 1 or keys & anchors.TRL_MODEL) else None


RECOGNISERS: tuple[Recogniser, ...] = (
    _kubernetes,
    _compose,
    _helm,
    _llama_swap,
    _srt_slurm,
    _megatron_tests,
    _by(anchors.ACCELERATE),
    _peft,
    _torchtune,
    _deepspeed,
    _by(anchors.AXOLOTL),
    *map(_by, anchors.LLAMAFACTORY),
    _litgpt,
    _megatron_sections,
    _torchtitan,
    _llm_foundry,
    _by(anchors.MAXTEXT),
    _by(anchors.TRITON),
    _by(anchors.TRTLLM),
    _by(anchors.SGLANG),
    _by(anchors.VLLM),
    _hugging_face,
    _by(anchors.MEGATRON),
)

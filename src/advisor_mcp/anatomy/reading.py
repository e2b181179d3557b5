"""From what a caller names as a model to its Architecture: a known name, a path, or a configuration object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from advisor_mcp import access, knowledge
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families import family
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.errors import CannotAnswer, UsageError, nearest, shown

LARGEST_CONFIG_BYTES = 4_000_000
DTYPES = {
    "float32": "fp32", "float": "fp32", "bfloat16": "bf16", "float16": "fp16", "half": "fp16",
    "float8_e4m3fn": "fp8", "float8_e5m2": "fp8", "fp32": "fp32", "bf16": "bf16", "fp16": "fp16", "fp8": "fp8",
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A model that was read: its architecture, a name to call it by, and where its facts come from."""

    name: str
    architecture: Architecture
    sources: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


def read_model(model: str | Mapping[str, Any]) -> Model:
    """Read a model from a known name, a path to a config.json or its folder, JSON text, or a configuration object.

    Raises `UsageError` for what cannot be read and `CannotAnswer` for a family or a field that is missing.
    """
    if not isinstance(model, str):
        return Model(_label(model, "the given configuration"), architecture_of(model))
    text = model.strip()
    if text.startswith("{"):
        config = _parse(text, "the given text")
        return Model(_label(config, "the given configuration"), architecture_of(config))
    if len(text) > 4096:
        raise UsageError("model is too long to be a name or a path; pass the configuration as an object")
    return _known(text) or _from_path(text)


@lru_cache(maxsize=256)
def _known(name: str) -> Model | None:
    fact = knowledge.find("model", name)
    if fact is None:
        return None
    notes = () if fact["id"] == name else (f"{shown(name)} is read as {fact['id']}",)
    return Model(fact["name"], architecture_of(fact["config"]), tuple(fact["sources"]), notes)


def _from_path(text: str) -> Model:
    looks_like_path = (
        any(mark in text for mark in ("\\", "./", "~"))
        or text.startswith("/")
        or text.endswith((".json", ".safetensors", ".gguf"))
    )
    if not access.paths_allowed():
        if looks_like_path:
            access.readable(text)  # says why not
        raise unknown_model(text)
    path = access.readable(text)
    try:
        if path.is_dir():
            return _from_file(path / "config.json", text)
        if path.is_file():
            return _from_file(path, text)
    except OSError as error:
        raise UsageError(f"{shown(text, 300)} cannot be read: {error.strerror or 'the path is not usable'}") from None
    except ValueError:
        raise UsageError(f"{shown(text, 300)} is not a usable path") from None
    if looks_like_path:
        raise UsageError(
            f"there is no file or folder {shown(text, 300)}; give a config.json, its folder, or a known name"
        )
    raise unknown_model(text)


def unknown_model(name: str) -> UsageError:
    """The error for a name that is neither known nor a path."""
    known = knowledge.names("model")
    return UsageError(
        f"unknown model {shown(name)}{nearest(name, known)} (give a known name, a path to its config.json, or the configuration itself)"
    )


def _from_file(path: Path, given: str) -> Model:
    if path.suffix in (".safetensors", ".gguf", ".bin", ".pt"):
        raise CannotAnswer(
            f"{shown(given, 300)} is a weight file, which does not say how its tensors are used",
            needs=["the config.json beside it"],
        )
    if not path.is_file():
        raise CannotAnswer(f"there is no config.json in {shown(given, 300)}", needs=["the model's config.json"])
    if path.stat().st_size > LARGEST_CONFIG_BYTES:
        raise UsageError(
            f"{shown(given, 300)} has {path.stat().st_size:,} bytes; a config.json has at most {LARGEST_CONFIG_BYTES:,}"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{shown(given, 300)} is not UTF-8 text; give a model's config.json") from None
    config = _parse(text, shown(given, 300))
    name = path.parent.name if path.name == "config.json" and path.parent.name else path.stem
    return Model(_label(config, name), architecture_of(config))


def _parse(text: str, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except RecursionError:
        raise UsageError(f"{what} is nested too deeply to be a model's configuration") from None
    except ValueError as error:
        place = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(f"{what} is not JSON{place}; give a model's config.json") from None
    if not isinstance(found, dict):
        raise UsageError(f"{what} holds a JSON {type(found).__name__}, not an object; give a model's config.json")
    return found


def _label(config: Mapping[str, Any], otherwise: str) -> str:
    name = config.get("_name_or_path")
    return name if isinstance(name, str) and 0 < len(name) < 120 and not name.startswith(("/", ".", "~")) else otherwise


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """Describe a configuration object by the family of its model_type."""
    c = Config(config)
    model_type = c.text("model_type")
    if not model_type:
        raise CannotAnswer("the configuration has no model_type, so its family is not known", needs=["model_type"])
    described = family(model_type)(c)
    text = c.part("text_config", "llm_config") or c
    quantization = c.part("quantization_config") or text.part("quantization_config")
    return replace(
        described,
        dtype=_dtype(c) or _dtype(text),
        max_sequence_length=text.optional("max_position_embeddings", "max_seq_len", "n_positions", "seq_length"),
        quantization=dict(quantization.data) if quantization else None,
    )


def _dtype(c: Config) -> str | None:
    found = c.text("dtype", "torch_dtype")
    if found is None:
        return None
    name = found.removeprefix("torch.")
    if name not in DTYPES:
        raise UsageError(
            f"{c.prefix}dtype in the configuration is {shown(found)}; known are {', '.join(sorted(set(DTYPES)))}"
        )
    return DTYPES[name]

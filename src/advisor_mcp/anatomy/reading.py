"""From what a caller names as a model to its Architecture: a known name, a path, or a configuration object."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from advisor_mcp import access, content, knowledge
from advisor_mcp.anatomy.checkpoints import Checkpoint, read_folder, read_gguf, read_safetensors
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families import family
from advisor_mcp.anatomy.gguf_config import gguf_config
from advisor_mcp.anatomy.hub import is_repository, read_hub
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.errors import CannotAnswer, UsageError, nearest, shown

LARGEST_CONFIG_BYTES = 4_000_000
WEIGHTS = (".safetensors", ".gguf")
GIVEN = "the given configuration"
DTYPES = {
    "float32": "fp32", "float": "fp32", "bfloat16": "bf16", "float16": "fp16", "half": "fp16",
    "float8_e4m3fn": "fp8", "float8_e5m2": "fp8", "fp32": "fp32", "bf16": "bf16", "fp16": "fp16", "fp8": "fp8",
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A model that was read: a name to call it by, what its configuration describes, and where its facts come from.

    `described` is its architecture, or the error that says why there is none; `checkpoint` the tensors of its weight
    files where those were read.
    """

    name: str
    described: Architecture | CannotAnswer
    sources: tuple[str, ...] = (GIVEN,)
    assumptions: tuple[str, ...] = ()
    checkpoint: Checkpoint | None = None

    @property
    def architecture(self) -> Architecture:
        """The architecture; raises the `CannotAnswer` that says what is missing where there is none."""
        if isinstance(self.described, CannotAnswer):
            raise self.described
        return self.described


def read_model(model: str | Mapping[str, Any]) -> Model:
    """Read a model from a known name, a path, JSON text, a configuration object, or (where allowed) a hub repository.

    A path is a config.json, a checkpoint folder, a .safetensors or a .gguf file. Raises `UsageError` for what cannot be
    read and `CannotAnswer` for a family or a field that is missing, unless weight files can be counted all the same.
    """
    if not isinstance(model, str):
        return Model(_label(model, GIVEN), architecture_of(model))
    text = model.strip()
    if text.startswith("{"):
        config = _parse(text, "the given text")
        return Model(_label(config, GIVEN), architecture_of(config))
    if len(text) > 4096:
        raise UsageError("model is too long to be a name or a path; pass the configuration as an object")
    return _known(text, tuple(content.active())) or _from_path(text)


def config_of(model: str) -> tuple[str, dict[str, Any]]:
    """Name and configuration object of a known name, a path (a config.json or its folder) or JSON text, undescribed.

    Raises `UsageError` for what cannot be read.
    """
    text = model.strip()
    if text.startswith("{"):
        config = _parse(text, "the given text")
        return _label(config, GIVEN), config
    fact = knowledge.find("model", text)
    if fact is not None:
        return fact["name"], dict(fact["config"])
    path = access.readable(text) if access.paths_allowed() else None
    if path is not None and path.is_dir():
        path = path / "config.json"
    if path is None or not path.is_file():
        raise unknown_model(text)
    return path.parent.name or text, _parse(path.read_text(encoding="utf-8-sig"), shown(text, 300))


@lru_cache(maxsize=256)
def _known(name: str, _folders: tuple[Path, ...]) -> Model | None:
    fact = knowledge.find("model", name)
    if fact is None:
        return None
    notes = () if fact["id"] == name else (f"{shown(name)} is read as {fact['id']}",)
    return Model(fact["name"], architecture_of(fact["config"]), tuple(fact.get("sources", ())), notes)


def _from_path(text: str) -> Model:
    looks_like_path = text.startswith(("/", "./", "../", "~", ".\\")) or text.endswith((".json", *WEIGHTS))
    if not access.paths_allowed():
        if looks_like_path:
            access.readable(text)  # says why not
        return _from_hub(text)
    path = access.readable(text)
    try:
        if path.is_dir():
            return _from_folder(path, text)
        if path.is_file():
            return _from_weights(path, text) if path.suffix in WEIGHTS else _from_config(path, text)
    except OSError as error:
        raise UsageError(f"{shown(text, 300)} cannot be read: {error.strerror or 'the path is not usable'}") from None
    except ValueError:
        raise UsageError(f"{shown(text, 300)} is not a usable path") from None
    if path.exists():
        raise UsageError(f"{shown(text, 300)} is neither a file nor a folder; give a config.json or its folder")
    if looks_like_path:
        raise UsageError(
            f"there is no file or folder {shown(text, 300)}; give a config.json, its folder, or a known name"
        )
    return _from_hub(text)


def _from_hub(name: str) -> Model:
    if not (access.hub_allowed() and is_repository(name)):
        raise unknown_model(name)
    config, checkpoint = read_hub(name)
    return Model(
        name, _attempt(config, checkpoint), (), (f"configuration of {name} as the hub has it now",), checkpoint
    )


def unknown_model(name: str) -> UsageError:
    """The error for a name that is neither known nor a path."""
    known = knowledge.names("model")
    hub = ", or allow fetching with --allow-hub" if is_repository(name) and not access.hub_allowed() else ""
    return UsageError(
        f"unknown model {shown(name)}{nearest(name, known, cutoff=0.8)} "
        f"(give a known name, a path to its config.json, or the configuration itself{hub})"
    )


def _from_folder(folder: Path, given: str) -> Model:
    checkpoint = read_folder(folder)
    config = folder / "config.json"
    if config.is_file():
        return _from_config(config, given, checkpoint)
    if checkpoint is None:
        raise CannotAnswer(f"there is no config.json in {shown(given, 300)}", needs=["the model's config.json"])
    return Model(folder.resolve().name, _no_config(given), checkpoint=checkpoint)


def _from_weights(path: Path, given: str) -> Model:
    if path.suffix == ".gguf":
        checkpoint = read_gguf(path)
        try:
            described: Architecture | CannotAnswer = architecture_of(gguf_config(checkpoint))
        except CannotAnswer as error:
            described = error
        except UsageError as error:  # the tensors can be counted all the same
            described = CannotAnswer(error.message, needs=["the model's config.json"])
        return Model(path.stem, described, checkpoint=checkpoint)
    checkpoint = read_safetensors(path)
    config = path.with_name("config.json")
    return (
        _from_config(config, given, checkpoint)
        if config.is_file()
        else Model(path.stem, _no_config(given), checkpoint=checkpoint)
    )


def _no_config(given: str) -> CannotAnswer:
    return CannotAnswer(
        f"there is no config.json beside the weights of {shown(given, 300)}, and tensors do not say how they are used",
        needs=["the model's config.json"],
    )


def _attempt(config: Mapping[str, Any], checkpoint: Checkpoint | None) -> Architecture | CannotAnswer:
    """The architecture; where it cannot be described but weights can be counted, the reason instead."""
    try:
        return architecture_of(config)
    except CannotAnswer as error:
        if checkpoint is None:
            raise
        return error


def _from_config(path: Path, given: str, checkpoint: Checkpoint | None = None) -> Model:
    if path.stat().st_size > LARGEST_CONFIG_BYTES:
        raise UsageError(
            f"{shown(given, 300)} has {path.stat().st_size:,} bytes; a config.json has at most {LARGEST_CONFIG_BYTES:,}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{shown(given, 300)} is not UTF-8 text; give a model's config.json") from None
    config = _parse(text, shown(given, 300))
    # the caller's own words: a folder that was not named stays unnamed
    name = (Path(given).parent if path.name == Path(given).name == "config.json" else Path(given)).name
    return Model(_label(config, name or GIVEN), _attempt(config, checkpoint), checkpoint=checkpoint)


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


_PLAIN_NAME = re.compile(r"[\w][\w./@+ -]{0,118}")


def _label(config: Mapping[str, Any], otherwise: str) -> str:
    """What to call a model: the name its configuration gives, where that is a plain one (it is somebody else's text)."""
    name = config.get("_name_or_path")
    return name if isinstance(name, str) and _PLAIN_NAME.fullmatch(name) else otherwise


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
        not_described=(*described.not_described, *_other_head(c, described)),
        dtype=_dtype(c) or _dtype(text),
        max_sequence_length=text.optional("max_position_embeddings", "max_seq_len", "n_positions", "seq_length"),
        quantization=_quantization(c, quantization),
    )


OTHER_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForRewardModel", "Model")


def _other_head(c: Config, described: Architecture) -> tuple[str, ...]:
    """A note where a decoder's configuration is of a class without its language-model head, which is counted all the same."""
    classes = c.entries("architectures") or []
    name = next((str(found) for found in classes if isinstance(found, str)), "")
    has_head = any(tensor.role == "lm_head" for block, tensor in described.tensors())
    if not has_head or not name.endswith(OTHER_HEADS):
        return ()
    return (f"the configuration is of {shown(name)}: the language-model head is counted in its place",)


def _quantization(c: Config, declared: Config | None) -> dict[str, Any] | None:
    """What the configuration says of quantised weights; some files name the experts' format beside it."""
    if declared is None:
        return None
    experts = c.text("expert_dtype")
    return dict(declared.data) | ({"expert_dtype": experts} if experts else {})


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

"""A model's configuration and tensor headers from the Hugging Face hub: only where the user allowed it, never weights."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from advisor_mcp.anatomy.checkpoints import Checkpoint, Stored
from advisor_mcp.errors import AdvisorError, CannotAnswer, UsageError, shown

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def is_repository(name: str) -> bool:
    """Whether a name has the form of a hub repository, OWNER/NAME."""
    return REPOSITORY.fullmatch(name) is not None and ".." not in name and "--" not in name


def read_hub(name: str) -> tuple[dict[str, Any], Checkpoint | None]:
    """A repository's config.json and the headers of its .safetensors files, read by range requests.

    Raises `CannotAnswer` where the hub cannot be reached, the model is gated, or it has no configuration.
    """
    try:
        from huggingface_hub import HfApi, errors
    except ImportError:
        raise CannotAnswer(
            "reading from the hub needs huggingface_hub, which is not installed",
            needs=["pip install 'advisor-mcp[hub]'"],
        ) from None
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        config = json.loads(Path(api.hf_hub_download(name, "config.json")).read_text(encoding="utf-8"))
    except Exception as error:  # the library raises its own errors, its transport's and the system's
        raise _explained(name, error, errors) from None
    if not isinstance(config, dict):
        raise UsageError(f"the config.json of {name} is not an object")
    return config, _headers(api, name)


def _explained(name: str, error: Exception, errors: Any) -> AdvisorError:
    """What went wrong at the hub, in one sentence that says what to do."""
    if isinstance(error, errors.GatedRepoError):
        return CannotAnswer(
            f"{name} is gated: accept its terms on the hub and set HF_TOKEN", needs=["HF_TOKEN with access"]
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return UsageError(
            f"the hub has no public model {shown(name)}; check its spelling, or set HF_TOKEN if it is private"
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        return CannotAnswer(
            f"the hub cannot be reached and {name} is not in its cache", needs=["a connection, or the config.json"]
        )
    if isinstance(error, errors.EntryNotFoundError):
        return CannotAnswer(f"{name} has no config.json on the hub", needs=["the model's config.json"])
    return CannotAnswer(
        f"{name} could not be read from the hub ({type(error).__name__})", needs=["the model's config.json"]
    )


def _headers(api: Any, name: str) -> Checkpoint | None:
    """The tensors of the repository's safetensors files; None where it has none or they cannot be read."""
    try:
        found = api.get_safetensors_metadata(name)
    except Exception:  # a count from the files is a welcome addition to the configuration, never a condition
        return None
    tensors = {
        key: Stored(tuple(info.shape), str(info.dtype), info.data_offsets[1] - info.data_offsets[0])
        for part in found.files_metadata.values()
        for key, info in part.tensors.items()
    }
    return Checkpoint(tensors)

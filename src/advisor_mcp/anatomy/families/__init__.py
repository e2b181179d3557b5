"""One small file per family of architectures: MODEL_TYPES names what it describes, `describe(config)` does it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import lru_cache

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.errors import CannotAnswer, shown

Describe = Callable[[Config], Architecture]


@lru_cache(maxsize=1)
def families() -> dict[str, Describe]:
    """Model type -> the function that describes its configurations."""
    found: dict[str, Describe] = {}
    for module in pkgutil.iter_modules(__path__):
        found.update(_of(module.name))
    return found


def _of(name: str) -> dict[str, Describe]:
    module = importlib.import_module(f"{__name__}.{name}")
    return dict.fromkeys(module.MODEL_TYPES, module.describe)


def family(model_type: str) -> Describe:
    """The family of a model type; raises `CannotAnswer` with its name when no family describes it."""
    if any(module.name == model_type for module in pkgutil.iter_modules(__path__)):
        # a family's file is named after its main model type, so that reading one model imports one family
        return _of(model_type)[model_type]
    known = families()
    if model_type not in known:
        raise CannotAnswer(
            f"the model type {shown(model_type)} is not described here yet, and its size is not guessed",
            needs=[f"a description of the family {shown(model_type)}"],
        )
    return known[model_type]

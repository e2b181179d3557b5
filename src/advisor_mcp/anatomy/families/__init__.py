"""One small file per family of architectures: MODEL_TYPES names what it describes, `describe(config)` does it."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.errors import CannotAnswer, shown

Describe = Callable[[Config], Architecture]
_TYPES = re.compile(r"^MODEL_TYPES(?:: [^=]+)? = (\(.*?\))\s*(?:#.*)?$", re.MULTILINE | re.DOTALL)


@lru_cache(maxsize=1)
def model_types() -> dict[str, str]:
    """Model type -> the file that describes it; read from the files' own declarations, so that none has to be imported."""
    found: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        if declared := _TYPES.search(path.read_text(encoding="utf-8")):
            found.update(dict.fromkeys(ast.literal_eval(declared[1]), path.stem))
    return found


def family(model_type: str) -> Describe:
    """The family of a model type; raises `CannotAnswer` with its name when no family describes it."""
    known = model_types()
    if model_type not in known:
        raise CannotAnswer(
            f"the model type {shown(model_type)} is not described here yet, and its size is not guessed",
            needs=[f"a description of the family {shown(model_type)}"],
        )
    describe: Describe = importlib.import_module(f"{__name__}.{known[model_type]}").describe
    return describe

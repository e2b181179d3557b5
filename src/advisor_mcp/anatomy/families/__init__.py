"""One small file per family of architectures: MODEL_TYPES names what it describes, `describe(config)` does it."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.errors import CannotAnswer, shown

Describe = Callable[[Config], Architecture]
_HARMLESS = re.compile(r"rope|rotary|limit|scal|dropout|eps|softcap|_act|activation|theta|sliding_window_attention")
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
    module = importlib.import_module(f"{__name__}.{known[model_type]}")
    describe: Describe = module.describe
    return describe if getattr(module, "READS_PER_LAYER_CONFIG", False) else partial(_uniform, describe)


def _uniform(describe: Describe, c: Config) -> Architecture:
    """Describe a configuration whose layers differ in nothing that bears on sizes.

    transformers 5 may save a field's value for single layers in per_layer_config; a family that does not read it
    refuses what it cannot ignore.
    """
    for part in (c, c.part("text_config")):
        layers = part.part("per_layer_config") if part else None
        for own in (layers.part(name) for name in layers.data) if layers else ():
            fields = [name for name in own.data if not _HARMLESS.search(name)] if own else []
            if own and fields:
                raise CannotAnswer(
                    f"{own.prefix}{fields[0]} changes single layers, which is not described for this model type"
                )
    return describe(c)

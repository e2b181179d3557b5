"""torchtune's components: what can be named in `_component_`, and with which parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from advisor_mcp.linting.options import table
from advisor_mcp.linting.rules._ft import used
from advisor_mcp.linting.unit import Setting, Unit

# torch's own optimizers, which recipes name most; their parameters are torch's business.
TORCH_OPTIM = frozenset(
    (
        "ASGD",
        "Adadelta",
        "Adafactor",
        "Adagrad",
        "Adam",
        "AdamW",
        "Adamax",
        "LBFGS",
        "Muon",
        "NAdam",
        "RAdam",
        "RMSprop",
        "Rprop",
        "SGD",
        "SparseAdam",
    )
)
ANY = "**"


@cache
def components(module: str, version: str) -> Mapping[str, frozenset[str]]:
    """A module's components by name with the parameters they take in a release; nothing for an unknown module.

    `ANY` among the parameters means any keyword. The table does not say since when a component without parameters
    exists, so every component of any release is listed.
    """
    known, prefix = table("torchtune"), f"component:{module}."
    held = {scope[len(prefix) :]: scope for scope in known.scopes if scope.startswith(prefix)}
    return {name: frozenset(known.options(scope, version)) for name, scope in held.items() if "." not in name}


@cache
def modules() -> frozenset[str]:
    """The modules that have components."""
    scopes = (scope.removeprefix("component:") for scope in table("torchtune").scopes if scope.startswith("component:"))
    return frozenset(path.rpartition(".")[0] for path in scopes)


def versions_in_use(unit: Unit) -> tuple[str, ...]:
    """Which tables a configuration is held against: both where no version is named."""
    if unit.version is None:
        return ("0.6.1", "0.7.0.dev0")
    if unit.before("0.6"):
        return ()
    return ("0.7.0.dev0",) if unit.since("0.7") else ("0.6.1",)


def named(unit: Unit) -> Iterator[Setting]:
    """Every `_component_` of a configuration that is known."""
    for name, setting in unit.settings.items():
        if name.rsplit(".", 1)[-1] == "_component_" and isinstance(setting.value, str):
            yield setting


def component(unit: Unit, section: str) -> str:
    """What a section's `_component_` is, or nothing."""
    return unit.text(f"{section}._component_") or ""


def family(path: str) -> str:
    """The model family of a component: ``torchtune.models.llama3_1.llama3_1_8b`` gives ``llama3_1``."""
    parts = path.split(".")
    return parts[2] if parts[:2] == ["torchtune", "models"] and len(parts) > 3 else ""


def trains(unit: Unit) -> bool:
    """Whether a configuration is for a training recipe."""
    return (
        used(unit, "optimizer") is not None
        and used(unit, "epochs", "max_steps_per_epoch", "num_steps", "max_steps") is not None
    )


def is_lora(unit: Unit) -> bool:
    """Whether the model is a LoRA or QLoRA one."""
    return "lora" in component(unit, "model").rsplit(".", 1)[-1]


def packed(unit: Unit) -> Iterator[Setting]:
    """Every data set of a configuration that is packed."""
    for name in unit.settings:
        parts = name.split(".")
        if parts[-1] == "packed" and parts[0] in ("dataset", "dataset_val") and (found := used(unit, name)):
            yield found

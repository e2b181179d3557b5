"""What a checkpoint's files hold, set against what its configuration describes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from advisor_mcp.anatomy.checkpoints import Checkpoint
from advisor_mcp.anatomy.inventory import Architecture, count
from advisor_mcp.anatomy.reading import Model
from advisor_mcp.errors import CannotAnswer, shown
from advisor_mcp.formulas.parameters import parameters
from advisor_mcp.formulas.precision import WeightFormat, checkpoint_bytes, requested_format

MOST_NAMES = 3


@dataclass(frozen=True, slots=True)
class Contents:
    """Parameters that a checkpoint holds (None where packed formats hide them), from its files or its configuration.

    `differences` say, one sentence each, what sets them apart from the model's own parameters.
    """

    parameters: int | None
    from_files: bool
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of a checkpoint's weights in a format, `bytes` None where the declared format is not described.

    `format` names it, `fmt` is the format as the formulas take it (None where it is not known or only the files know it).
    """

    bytes: int | None
    format: str
    fmt: WeightFormat | None = None
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def weights(model: Model, dtype: str | None, quantization: str | None) -> Weights:
    """The weights as they are stored, or as they would be in the format asked for.

    A declared quantisation that is not described is a warning here: it hides the bytes, not the parameters.
    """
    if model.checkpoint is not None and dtype is None and quantization is None:
        return Weights(model.checkpoint.bytes, "stored")
    architecture = model.architecture
    try:
        fmt = requested_format(architecture, dtype, quantization)
    except CannotAnswer as error:
        if dtype is not None or quantization is not None:
            raise
        return Weights(None, "not described", warnings=(f"bytes of weights are not answered: {error.message}",))
    assumed = architecture.dtype is None and not fmt.declared and fmt.quantization == "none" and dtype is None
    said = (f"the configuration names no dtype: {fmt.kept_dtype} is taken" if assumed else "", fmt.note)
    notes = tuple(note for note in said if note)
    return Weights(checkpoint_bytes(architecture, fmt), format_name(fmt), fmt, notes)


def format_name(fmt: WeightFormat) -> str:
    """A weight format in words."""
    return (
        fmt.kept_dtype if fmt.quantization == "none" else f"{fmt.quantization} ({fmt.kept_dtype} where not quantised)"
    )


def contents(model: Model) -> Contents:
    """What the checkpoint of a model holds: counted from its files where those were read, else from its configuration."""
    described = model.described if isinstance(model.described, Architecture) else None
    if model.checkpoint is not None:
        return _from_files(model.checkpoint, described)
    architecture = model.architecture
    total = parameters(architecture).total
    beside = _beside(architecture)
    notes = tuple(f"{name}: {number:,} parameters stored beside the model" for name, number in beside.items())
    return Contents(total + sum(beside.values()), False, notes)


def _beside(architecture: Architecture) -> dict[str, int]:
    sizes = architecture.bound()
    found: dict[str, int] = {}
    for block in architecture.beside:
        elements = sum(int(block.repeat * tensor.elements(sizes)) for tensor in block.tensors)
        found[block.name] = found.get(block.name, 0) + elements
    return found


def _from_files(checkpoint: Checkpoint, architecture: Architecture | None) -> Contents:
    if checkpoint.packed:
        return Contents(
            None,
            True,
            ("packed formats hold several weights in one element, so the files' elements are not parameters",),
        )
    if architecture is None:
        return Contents(checkpoint.elements, True)
    total = parameters(architecture).total
    return Contents(checkpoint.elements, True, tuple(_differences(checkpoint, architecture, total)))


def _differences(checkpoint: Checkpoint, architecture: Architecture, total: int) -> Iterator[str]:
    gap = checkpoint.elements - total
    if gap:
        yield f"the files hold {abs(gap):,} parameters {'more' if gap > 0 else 'fewer'} than the configuration describes"
    expected = dict(_expanded(architecture))
    if not expected.keys() & checkpoint.tensors.keys():
        return  # another naming scheme (GGUF, a vendor's own): names say nothing then
    extra = [name for name in checkpoint.tensors if name not in expected]
    missing = [name for name in expected if name not in checkpoint.tensors]
    shaped = [n for n, shape in expected.items() if n in checkpoint.tensors and checkpoint.tensors[n].shape != shape]
    for names, what in (
        (extra, "only in the files"),
        (missing, "only in the configuration"),
        (shaped, "of another shape in the files"),
    ):
        if names:
            more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
            yield f"{what}: {', '.join(_safe(name) for name in names[:MOST_NAMES])}{more}"


def _safe(name: str) -> str:
    """A tensor's name as it may be shown: it is somebody else's text."""
    return name if len(name) <= 120 and name.isascii() and name.isprintable() else shown(ascii(name)[1:-1], 120)


def _expanded(architecture: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor's name with its indices filled in, and its shape."""
    sizes = architecture.bound()
    for block, tensor in architecture.stored():
        shape = tensor.shape(sizes)
        for layer in block.layers if "{layer}" in tensor.name else (0,):
            for expert in range(int(count(tensor.copies, sizes))):
                yield tensor.name.replace("{layer}", str(layer)).replace("{expert}", str(expert)), shape

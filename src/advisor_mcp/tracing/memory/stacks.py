"""From an allocation's stack to the line of code that a person would look at, and to the phase of a training step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MOST_FRAMES = 4_000_000
MOST_STACKS = 200_000
NO_STACK = "no stack recorded"
_TORCH = re.compile(
    r"(?:^|(?:site-packages|dist-packages|pytorch)[/\\])torch[/\\]|[/\\]torchinductor_|torch_compile_debug"
)
_STANDARD = re.compile(r"[/\\]lib[/\\]python3[^/\\]*[/\\](?!site-packages|dist-packages)|^<|^$|^\?\?$|^none$")
_NATIVE = re.compile(r"\.(?:c|cc|cpp|cu|cuh|h|hpp|so|pyx)(?:\.\d+)*$")
_OPTIMIZER = re.compile(r"[/\\]optim(?:izers?)?[/\\]")
_BACKWARD = re.compile(r"\b_?backward\b|_engine_run_backward|torch::autograd::Engine")


class Frame(NamedTuple):
    """One frame, innermost first in a stack."""

    file: str
    line: int
    name: str


@dataclass(frozen=True, eq=False, slots=True)
class Stack:
    """What is kept of a stack: two events with the same stack share one object."""

    site: str
    phase: str
    empties_cache: bool


UNKNOWN = Stack(NO_STACK, "no stack recorded", False)


class Stacks:
    """The stacks of a record, each kept once."""

    def __init__(self) -> None:
        self._frames: dict[Frame, Frame] = {}
        self._stacks: dict[tuple[Frame, ...], Stack] = {}
        self._held = 0

    def frame(self, file: object, line: object, name: object) -> Frame:
        """A frame, the same object for the same place."""
        made = Frame(str(file), line if isinstance(line, int) else 0, str(name))
        return self._frames.setdefault(made, made) if len(self._frames) < MOST_STACKS else made

    def stack(self, frames: Sequence[Frame]) -> Stack:
        """The stack of these frames, the same object for the same frames."""
        key = tuple(frames)
        if not key:
            return UNKNOWN
        if (known := self._stacks.get(key)) is not None:
            return known
        made = Stack(site_of(key), phase_of(key), any("empty_cache" in frame.name for frame in key))
        if len(self._stacks) < MOST_STACKS and self._held < MOST_FRAMES:
            self._stacks[key] = made
            self._held += len(key)
        return made


def base_name(path: str) -> str:
    """The last part of a path of any system; the rest may name a user or a host and is never shown."""
    return re.split(r"[/\\]", path)[-1] or "?"


def site_of(frames: Iterable[Frame]) -> str:
    """``train.py:12 step``: the innermost frame outside PyTorch, the standard library and native code, else of PyTorch."""
    python = [frame for frame in frames if not _NATIVE.search(frame.file) and not _STANDARD.search(frame.file)]
    own = next((frame for frame in python if not _TORCH.search(frame.file)), None)
    found = own or (python[0] if python else None)
    return f"{base_name(found.file)}:{found.line} {found.name}" if found else NO_STACK


def phase_of(frames: Iterable[Frame]) -> str:
    """The phase of a training step in which a stack allocates, as far as its names tell."""
    names = list(frames)
    if any(_OPTIMIZER.search(frame.file) for frame in names):
        return "in the optimizer"
    if any(_BACKWARD.search(frame.name) for frame in names):
        return "in backward"
    if any(frame.name in ("forward", "_call_impl") for frame in names):
        return "in forward"
    return "elsewhere" if names else NO_STACK

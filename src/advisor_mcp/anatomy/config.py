"""Typed reading of a model configuration: every field that is used is checked, and every default that is taken is noted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advisor_mcp.errors import CannotAnswer, UsageError, shown

LARGEST_FIELD = 2**31 - 1
MOST_LAYERS = 10_000


class Config:
    """A configuration object, or a nested part of one, whose fields are read by name.

    `notes` collects the defaults that were taken because a field is absent; `prefix` is where a nested part stands.
    """

    def __init__(self, data: Mapping[str, Any], prefix: str = "", notes: list[str] | None = None) -> None:
        self.data = data
        self.prefix = prefix
        self.notes: list[str] = [] if notes is None else notes

    def _find(self, names: Sequence[str]) -> tuple[str, Any]:
        for name in names:
            if self.data.get(name) is not None:
                return self.prefix + name, self.data[name]
        return self.prefix + names[0], None

    def given(self, *names: str) -> bool:
        """Whether one of the names is present and not null."""
        return self._find(names)[1] is not None

    def number(self, *names: str, default: int | None = None, of: str | None = None, least: int = 1) -> int:
        """A whole number of at least `least`.

        An absent field takes `default`; `of` names the class whose default it is and makes a note of it. Raises
        `CannotAnswer` when the field is absent and has no default, `UsageError` for any other value.
        """
        name, value = self._find(names)
        if value is None:
            if default is None:
                raise CannotAnswer(f"the configuration has no {name}, which this model type needs", needs=[name])
            if of:
                self.notes.append(f"{name} is absent: {default}, the default of {of}")
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST_FIELD:
            raise UsageError(
                f"{name} in the configuration must be a whole number from {least} to {LARGEST_FIELD}, not {shown(value)}"
            )
        return value

    def optional(self, *names: str, least: int = 1) -> int | None:
        """A whole number, or None when the field is absent or null."""
        return self.number(*names, least=least) if self.given(*names) else None

    def flag(self, *names: str, default: bool = False) -> bool:
        """True or false; an absent field takes `default`."""
        name, value = self._find(names)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise UsageError(f"{name} in the configuration must be true or false, not {shown(value)}")
        return value

    def text(self, *names: str) -> str | None:
        """Text, or None when the field is absent."""
        name, value = self._find(names)
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{name} in the configuration must be text, not {shown(value)}")
        return value

    def entries(self, *names: str, length: int | None = None) -> list[Any] | None:
        """A list (of `length` entries where that is given), or None when the field is absent."""
        name, value = self._find(names)
        if value is None:
            return None
        if not isinstance(value, list):
            raise UsageError(f"{name} in the configuration must be a list, not {shown(value)}")
        if length is not None and len(value) != length:
            raise UsageError(f"{name} in the configuration has {len(value)} entries for {length} layers")
        return value

    def numbers(self, *names: str, length: int | None = None, least: int = 0) -> list[int] | None:
        """A list of whole numbers of at least `least` (`length` of them where given), or None when the field is absent."""
        found = self.entries(*names, length=length)
        for entry in found or []:
            if isinstance(entry, bool) or not isinstance(entry, int) or not least <= entry <= LARGEST_FIELD:
                raise UsageError(
                    f"{self._find(names)[0]} in the configuration must hold whole numbers of at least {least}, not {shown(entry)}"
                )
        return found

    def layer_kinds(self, name: str, layers: int, known: Mapping[str, str]) -> list[str] | None:
        """A per-layer list of names, each translated by `known`; None when the field is absent."""
        found = self.entries(name, length=layers)
        if found is None:
            return None
        for kind in found:
            if not isinstance(kind, str) or kind not in known:
                raise CannotAnswer(
                    f"{self.prefix}{name} names the layer kind {shown(kind)}, which is not described for this model type"
                )
        return [known[kind] for kind in found]

    def part(self, *names: str) -> Config | None:
        """A nested configuration, or None when it is absent."""
        name, value = self._find(names)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise UsageError(f"{name} in the configuration must be an object, not {shown(value)}")
        return Config(value, f"{name}.", self.notes)

    def layers(self, *names: str) -> int:
        """The number of layers, bounded so that per-layer lists stay small."""
        names = names or ("num_hidden_layers",)
        found = self.number(*names)
        if found > MOST_LAYERS:
            name = f"{self.prefix}{names[0]}"
            raise UsageError(f"{name} in the configuration is {found}; at most {MOST_LAYERS} layers are described")
        return found

    def divides(self, whole: int, parts: int, what: str) -> int:
        """`whole / parts`, exact; raises `UsageError` saying `what` does not divide."""
        if whole % parts:
            raise UsageError(f"the configuration contradicts itself: {what} ({whole} / {parts} is not whole)")
        return whole // parts

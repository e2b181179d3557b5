"""Reading fact files: TOML that a person can read and diff, one or more entries a file, every entry with its sources."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS = {
    "gpus": "gpu",
    "models": "model",
    "techniques": "technique",
    "sources": "source",
    "evidence": "evidence",
    "clusters": "cluster",
}
BUILT_IN = Path(__file__).parent / "facts"
FORMAT = 3  # raise it when the store's tables or what an entry holds change


@dataclass(frozen=True, slots=True)
class Fact:
    """One entry: its kind, id, name, other names, the words to search, and everything it says."""

    kind: str
    id: str
    name: str
    aliases: tuple[str, ...]
    text: str
    data: dict[str, Any]


@dataclass
class Facts:
    """What was read, and the files that could not be."""

    facts: list[Fact] = field(default_factory=list)
    problems: list[tuple[Path, str]] = field(default_factory=list)


def fact_files(folders: Sequence[Path]) -> list[tuple[str, Path]]:
    """Kind and path of every fact file: the built-in ones, then those in the user's content folders."""
    found: list[tuple[str, Path]] = []
    for root in (BUILT_IN, *folders):
        for folder, kind in KINDS.items():
            paths = sorted((root / folder).glob("*.toml")) + sorted((root / folder).glob("*.json"))
            found.extend((kind, path) for path in paths)
    return found


def fingerprint(files: Iterable[tuple[str, Path]]) -> str:
    """A hash of the files' names and contents, and of where the user's lie, as problems with them are told by path."""
    digest = hashlib.sha256(f"format {FORMAT}".encode())
    for kind, path in files:
        name = path.name if path.is_relative_to(BUILT_IN) else path
        digest.update(f"\0{kind}/{name}\0".encode("utf-8", "backslashreplace"))
        try:
            digest.update(path.read_bytes())
        except OSError:  # it is listed as a problem when the facts are read
            digest.update(b"\0unreadable\0")
    return digest.hexdigest()[:20]


def read_facts(files: Iterable[tuple[str, Path]]) -> Facts:
    """Read every entry; an entry whose id or alias is taken already, or that lacks what it needs, becomes a problem."""
    result = Facts()
    taken: dict[tuple[str, str], str] = {}
    for kind, path in files:
        try:
            for fact in _entries(kind, path):
                keys = {(kind, key(name)) for name in (fact.id, fact.name, *fact.aliases)}
                if clash := next((k for k in sorted(keys) if taken.get(k, fact.id) != fact.id), None):
                    raise ValueError(f"{fact.id!r} uses the name {clash[1]!r}, which {taken[clash]!r} has already")
                if (kind, key(fact.id)) in taken:
                    raise ValueError(f"{fact.id!r} is there twice")
                taken.update(dict.fromkeys(keys, fact.id))
                result.facts.append(fact)
        except OSError as error:
            result.problems.append((path, f"it cannot be read: {(error.strerror or 'no reason is given').lower()}"))
        except RecursionError:
            result.problems.append((path, "it is nested too deeply"))
        except ValueError as error:
            result.problems.append((path, str(error)))
    return result


def _entries(kind: str, path: Path) -> Iterator[Fact]:
    if path.suffix == ".json":  # a user's config.json, known by its file's name
        config = json.loads(path.read_text(encoding="utf-8"))
        if kind != "model" or not isinstance(config, dict):
            raise ValueError("only a model's config.json may be JSON; write other facts as TOML")
        yield _fact(kind, {"id": path.stem.lower(), "name": path.stem, "config": config, "sources": []})
        return
    found = tomllib.loads(path.read_text(encoding="utf-8")).get(kind)
    if not isinstance(found, list) or not all(isinstance(data, dict) for data in found):
        raise ValueError(f"it has no [[{kind}]] entry; begin each entry with [[{kind}]]")
    for data in found:
        yield _fact(kind, data)


def _fact(kind: str, data: dict[str, Any]) -> Fact:
    missing = [name for name in ("id", "name") if not isinstance(data.get(name), str)]
    if missing:
        raise ValueError(f"an entry has no {' and no '.join(missing)}")
    if kind == "model" and not isinstance(data.get("config"), dict):
        raise ValueError(f"{data['id']!r} has no config")
    if kind == "model":  # TOML has no null, and an absent field may have another default than a null one
        data["config"] |= dict.fromkeys(_texts(data, "null_fields"))
    if kind != "source":
        data["sources"] = list(_texts(data, "sources"))  # so that what reads an entry need not ask
    aliases = _texts(data, "aliases")
    if isinstance(data.get("hub_id"), str):
        aliases += (data["hub_id"],)
    aliases += _texts(data, "nvml_names")
    _refuse_broken_text(data)
    return Fact(kind, data["id"], data["name"], aliases, _words(data), data)


def _texts(data: dict[str, Any], field: str) -> tuple[str, ...]:
    found = data.get(field, [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError(f"{data['id']!r} has {field} that are not a list of texts")
    return tuple(found)


def _refuse_broken_text(data: dict[str, Any]) -> None:
    try:
        json.dumps(data, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{data['id']!r} is not Unicode text: it holds half of a surrogate pair") from None


def _words(data: Any) -> str:
    """The searchable words of an entry: its text and, for short values, their names too."""
    if isinstance(data, dict):
        skipped = ("id", "name", "aliases", "sources", "layer_types")
        return " ".join(f"{k} {_words(v)}" for k, v in data.items() if k not in skipped)
    if isinstance(data, list):
        return " ".join(_words(v) for v in data[:50])
    return str(data)


def spellings(fact: Fact) -> str:
    """Everything an entry may be searched by: its id, other names, and joined words taken apart (PagedAttention)."""
    names = (fact.id, fact.name, *fact.aliases)
    return " ".join([*names[:1], *names[2:], *(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) for name in names)])


def key(name: str) -> str:
    """A name as it is compared: lower case, without spaces, underscores and hyphens."""
    return re.sub(r"[\s_\-]+", "", name.lower())

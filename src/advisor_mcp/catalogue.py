"""Discovers tools and personas, built in and the user's; the one place that loads them."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor_mcp import content
from advisor_mcp.errors import AdvisorError, InternalError, UsageError, shown, unknown

if TYPE_CHECKING:
    from advisor_mcp.declaration import Progress, Tool
    from advisor_mcp.personas.loading import Persona
    from advisor_mcp.results import Answer

SNAPSHOT = "catalogue.json"
LARGEST_CALL = 8_000_000
_log = logging.getLogger(__name__)
_loading = threading.RLock()


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """What is known of a tool without importing it."""

    name: str
    title: str
    description: str
    toolset: str
    annotations: Mapping[str, bool]
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any]
    command: str
    positional: tuple[str, ...]
    examples: tuple[Mapping[str, Any], ...]
    path: Path
    views: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PersonaEntry:
    """What is known of a persona without reading its document."""

    name: str
    title: str
    description: str
    path: Path


@dataclass(frozen=True, slots=True)
class Problem:
    """A content file that is not served, and why."""

    path: Path
    message: str


class Faults:
    """Logs the traceback of a fault when it is first seen, and from then on how often it was."""

    def __init__(self) -> None:
        self._seen: Counter[Hashable] = Counter()
        self._guard = threading.Lock()

    def log(self, what: str, error: BaseException) -> None:
        """Log a fault, under the words that say what failed; it is the same one when its kind and its lines are."""
        lines = traceback.walk_tb(error.__traceback__)
        fault = type(error), frozenset((frame.f_code.co_filename, line) for frame, line in lines)
        with self._guard:
            self._seen[fault] += 1
            count = self._seen[fault]
        if count == 1:
            _log.error("%s", what, exc_info=error)
        elif str(count).strip("0") == "1":  # 10, 100, 1000, ...
            _log.error("%s: the same fault (%s) for the %s time", what, type(error).__name__, f"{count:,}th")


def describe_tool(tool: Tool) -> dict[str, Any]:
    """A tool's declaration as the snapshot holds it; views are named only where there are any."""
    described = {
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "toolset": tool.toolset,
        "annotations": {
            "readOnlyHint": tool.read_only,
            "destructiveHint": False,
            "idempotentHint": tool.idempotent,
            "openWorldHint": tool.open_world,
        },
        "input_schema": tool.input_schema,
        "output_schema": tool.output_schema,
        "command": tool.command,
        "positional": list(tool.positional),
        "examples": [{"question": e.question, "arguments": dict(e.arguments)} for e in tool.examples],
    }
    return described | ({"views": {name: asdict(view) for name, view in tool.views.items()}} if tool.views else {})


def describe_persona(persona: Persona) -> dict[str, Any]:
    """A persona's front matter as the snapshot holds it."""
    return {"name": persona.name, "title": persona.title, "description": persona.description}


@dataclass(frozen=True)
class Catalogue:
    """The tools and personas that are served, and the files that could not be."""

    tools: Mapping[str, ToolEntry]
    personas: Mapping[str, PersonaEntry]
    problems: tuple[Problem, ...] = ()
    folders: tuple[Path, ...] = field(default=())
    faults: Faults = field(default_factory=Faults, compare=False, repr=False)

    def declaration(self, name: str) -> Tool:
        """Import a tool's file and return its declaration; raises `UsageError` for a name that is not served."""
        if name not in self.tools:
            raise unknown("tool", name, self.tools)
        return _load(self.tools[name].path)

    def call(self, name: str, arguments: Mapping[str, Any], progress: Progress | None = None) -> Answer:
        """Validate the arguments, run the tool and return its answer.

        Raises only `AdvisorError`: a fault of ours becomes `InternalError` and its traceback goes to the log.
        """
        try:
            tool = self.declaration(name)
            if _bulk(arguments) > LARGEST_CALL:
                raise UsageError(
                    f"{name}: the arguments have over {LARGEST_CALL:,} characters; pass a path to the file instead"
                )
            return tool.call(arguments, progress)
        except AdvisorError:
            raise
        except RecursionError:
            raise UsageError(f"{name}: the arguments are nested too deeply; pass a plain configuration") from None
        except (Exception, SystemExit) as error:  # a tool that exits must not take its caller with it
            self.faults.log(f"{name} failed", error)
            raise InternalError(f"{name} failed on a fault of its own; please report the arguments you gave") from error

    def limit(self, name: str, arguments: Mapping[str, Any]) -> int:
        """Bytes that each channel of this call's answer may have."""
        return self.declaration(name).limit(arguments)

    def persona(self, name: str) -> Persona:
        """Read a persona's document; raises `UsageError` for a name that is not served."""
        from advisor_mcp.personas.loading import load_persona

        if name not in self.personas:
            raise unknown("persona", name, self.personas)
        return load_persona(self.personas[name].path)

    def select(self, toolsets: Sequence[str] | None = None, tools: Sequence[str] | None = None) -> Catalogue:
        """The same catalogue with only the named toolsets and tools; raises `UsageError` for a name that does not exist."""
        if not toolsets and not tools:
            return self
        known = sorted({entry.toolset for entry in self.tools.values()})
        _refuse_unknown("toolset", toolsets or (), known)
        _refuse_unknown("tool", tools or (), list(self.tools))
        kept = {n: e for n, e in self.tools.items() if e.toolset in (toolsets or ()) or n in (tools or ())}
        return replace(self, tools=kept)


def _refuse_unknown(kind: str, names: Iterable[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise unknown(kind, name, known)


def _bulk(value: Any, depth: int = 0) -> int:
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise UsageError(f"{shown(value)} is not Unicode text: it holds half of a surrogate pair")
        return len(value)
    if depth > 200:
        raise UsageError("the arguments are nested too deeply; pass a plain configuration")
    if isinstance(value, Mapping):
        return sum(_bulk(str(k), depth) + _bulk(v, depth + 1) for k, v in value.items())
    return sum(_bulk(v, depth + 1) for v in value) if isinstance(value, list) else 8


def build(folders: Sequence[Path] = ()) -> Catalogue:
    """Read the built-in snapshot and index the user's folders; a broken file is listed and the rest is served."""
    content.activate([folder.resolve() for folder in folders])  # as the index names the files in them
    tools, personas = _built_in()
    problems: list[Problem] = []
    index = _Index.open()
    for folder in folders:
        if not folder.is_dir():
            problems.append(Problem(folder, "the content folder does not exist"))
            continue
        for kind, path, found in index.read(folder):
            served: dict[str, Any] = tools if kind == "tool" else personas
            if "error" in found:
                problems.append(Problem(path, found["error"]))
            elif found["name"] in served:
                problems.append(
                    Problem(
                        path,
                        f"the {kind} {found['name']!r} is already served from {served[found['name']].path.parent.name}/; rename the file",
                    )
                )
            else:
                served[found["name"]] = _tool_entry(found, path) if kind == "tool" else PersonaEntry(**found, path=path)
    index.save()
    if folders:
        problems += _fact_problems()
    return Catalogue(dict(sorted(tools.items())), dict(sorted(personas.items())), tuple(problems), tuple(folders))


def _fact_problems() -> list[Problem]:
    """The user's fact files that cannot be read, or not to their end."""
    from advisor_mcp import knowledge

    try:
        return [Problem(Path(path), message) for path, message in knowledge.open_store().problems()]
    except Exception as error:  # as with a tool: whatever it is, the rest is served
        return [Problem(content.cache_folder(), f"the store of facts cannot be built: {type(error).__name__}: {error}")]


@lru_cache(maxsize=1)
def default_catalogue() -> Catalogue:
    """The built-in content and the folders that ADVISOR_MCP_CONTENT names."""
    return build(content.named_by_environment())


def _built_in() -> tuple[dict[str, ToolEntry], dict[str, PersonaEntry]]:
    root = content.built_in()
    data = json.loads((root / "tools" / SNAPSHOT).read_text(encoding="utf-8"))
    tools = {found["name"]: _tool_entry(found, root / "tools" / f"{found['name']}.py") for found in data["tools"]}
    personas = {
        found["name"]: PersonaEntry(**found, path=root / "personas" / f"{found['name']}.md")
        for found in data["personas"]
    }
    return tools, personas


def _tool_entry(found: dict[str, Any], path: Path) -> ToolEntry:
    values = found | {"positional": tuple(found["positional"]), "examples": tuple(found["examples"])}
    return ToolEntry(**values, path=path)


def content_files(root: Path) -> list[tuple[str, Path]]:
    """The tool and persona files of one content folder, in order."""
    tools = [("tool", p) for p in sorted((root / "tools").glob("*.py")) if not p.name.startswith("_")]
    return tools + [("persona", p) for p in sorted((root / "personas").glob("*.md"))]


def snapshot(root: Path) -> dict[str, Any]:
    """The snapshot of a content folder, from the declarations themselves; raises on the first file that cannot be read."""
    described = [(kind, _describe(kind, path)) for kind, path in content_files(root)]
    return {
        "tools": [found for kind, found in described if kind == "tool"],
        "personas": [found for kind, found in described if kind == "persona"],
    }


def _describe(kind: str, path: Path) -> dict[str, Any]:
    if kind == "tool":
        sys.modules.pop(f"advisor_mcp.tools.{path.stem}", None)  # the file may have changed since it was imported
        return describe_tool(_load(path))
    from advisor_mcp.personas.loading import load_persona

    return describe_persona(load_persona(path))


def _load(path: Path) -> Tool:
    """Import a tool file as `advisor_mcp.tools.NAME`, and check that it declares what its name says."""
    from advisor_mcp.declaration import Tool

    name = f"advisor_mcp.tools.{path.stem}"
    with _loading:  # calls run in threads, and a module that is being imported is already in sys.modules
        module = sys.modules.get(name)
        if module is None or Path(module.__file__ or "").resolve() != path.resolve():
            sys.modules.pop(name, None)
            importlib.invalidate_caches()
            module = importlib.import_module(name)
    tool = getattr(module, "TOOL", None)
    if not isinstance(tool, Tool):
        raise UsageError(f"{path.name} declares no tool: it needs a module-level TOOL = Tool(...)")
    if tool.name != path.stem:
        raise UsageError(f"{path.name} declares {tool.name!r}: name the function as the file")
    return tool


class _Index:
    """What the user's files declared when they were last imported, keyed by path, size and time."""

    def __init__(self, path: Path, known: dict[str, Any]) -> None:
        self.path, self.known, self.seen = path, known, dict[str, Any]()
        self.stored = frozenset(known)

    @classmethod
    def open(cls) -> _Index:
        path = content.cache_folder() / "content-index.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        return cls(path, known if isinstance(known, dict) else {})

    def read(self, folder: Path) -> list[tuple[str, Path, dict[str, Any]]]:
        """Kind, path, and description (or error) of every file of a folder."""
        return [(kind, path, self._entry(kind, path.resolve())) for kind, path in content_files(folder.resolve())]

    def _entry(self, kind: str, path: Path) -> dict[str, Any]:
        stat = path.stat()
        key = f"{path}|{stat.st_size}|{stat.st_mtime_ns}"
        if key not in self.known:
            try:
                self.known[key] = _describe(kind, path)
            except AdvisorError as error:
                return {"error": error.message}
            except (Exception, SystemExit) as error:
                # a user's file may fail in any way at all; a failure is not cached, for its cause may lie elsewhere
                return {"error": f"it failed to load: {type(error).__name__}: {str(error)[:200]}"}
        self.seen[key] = self.known[key]
        return dict(self.seen[key])

    def save(self) -> None:
        """Write the index where that is possible; without it the next start imports the files again."""
        if self.seen.keys() == self.stored:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(self.seen), encoding="utf-8")
            temporary.replace(self.path)
        except OSError:
            _log.debug("the content index could not be written to %s", self.path)

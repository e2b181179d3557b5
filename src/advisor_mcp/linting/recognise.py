"""Which tool a file is for, by what it holds, and the units it makes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from advisor_mcp.linting import commands
from advisor_mcp.linting.documents import is_model_config, units_of_document
from advisor_mcp.linting.reading_json import read_json
from advisor_mcp.linting.reading_toml import read_toml
from advisor_mcp.linting.reading_yaml import read_yaml
from advisor_mcp.linting.shell import Script, read_shell
from advisor_mcp.linting.slurm import sbatch_unit
from advisor_mcp.linting.source import SourceFile, Span
from advisor_mcp.linting.tree import IsTemplate, Malformed, Mapping, Node, Syntax, plain
from advisor_mcp.linting.unit import Setting, Unit

SHELL = (".sh", ".bash", ".sbatch", ".slurm", ".zsh", ".ksh", ".job", ".qsub", ".batch")
SUFFIXES: dict[str, Syntax] = {
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".py": "python",
    ".env": "env",
}
SYNTAXES = tuple(SUFFIXES) + SHELL


@dataclass
class Reading:
    """What became of one file: its units, or why there are none. `model` is a model's configuration that it holds."""

    source: SourceFile
    units: list[Unit] = field(default_factory=list)
    malformed: Malformed | None = None
    template: bool = False
    model: dict[str, Any] | None = None
    syntax: Syntax | None = None


def read_file(source: SourceFile) -> Reading:
    """Read a file by its name's ending, or by what it looks like, and say what it is."""
    syntax = syntax_of(source)
    reading = Reading(source, syntax=syntax)
    try:
        reading.units = _units(source, syntax, reading)
    except Malformed as error:
        reading.malformed = error
        if error.node is not None:
            reading.units = _document(error.node, syntax, reading)
    except IsTemplate:
        reading.template = True
    return reading


def units_of_text(source: SourceFile) -> list[Unit]:
    """The units of a text that stands inside another file, none where it cannot be read."""
    return read_file(source).units


def syntax_of(source: SourceFile) -> Syntax:
    """The syntax of a file: by its ending, else by its first characters."""
    name = PurePosixPath(source.name.lower())
    if name.suffix in SHELL:
        return "shell"
    if name.suffix in SUFFIXES:
        return SUFFIXES[name.suffix]
    text = source.text.lstrip("\ufeff \t\r\n")
    if text.startswith("#!") or "#SBATCH" in text:
        return "shell"
    if text.startswith("{"):
        return "json"
    if re.search(r"^\[[\w.\"-]+\]\s*$", text, re.MULTILINE):
        return "toml"
    if re.match(
        r"(export\s|[\w./-]+\s+(serve|launch|run|train|-m|--)|python|torchrun|accelerate|deepspeed|srun|docker)\b",
        _first_line(text),
    ):
        return "shell"
    if re.match(r"[A-Za-z_]\w*=\S*$", _first_line(text)):
        return "env"
    return "yaml" if re.search(r"^\s*-?\s*[\w.\"'-]+\s*:(\s|$)", text, re.MULTILINE) else "shell"


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")


def _units(source: SourceFile, syntax: Syntax, reading: Reading) -> list[Unit]:
    if syntax == "json":
        return _document(read_json(source), "json", reading)
    if syntax == "toml":
        return _document(read_toml(source), "toml", reading)
    if syntax == "yaml":
        return [unit for document in read_yaml(source) for unit in _document(document, "yaml", reading)]
    if syntax == "python":
        from advisor_mcp.linting.reading_python import python_units

        return python_units(source)
    if syntax == "env":
        return _env_file(source)
    return script_units(read_shell(source))


def script_units(script: Script) -> list[Unit]:
    """The units of a shell script: its environment, its batch options, every command, every file it writes."""
    source = script.source
    found = [unit for command in script.commands for unit in commands.units_of_command(command, source)]
    found += [
        Unit("stray", source, command.words[0].span, arguments=tuple(word.text for word in command.words))
        for command in script.commands
        if command.words[0].text.startswith("--") and found
    ]
    if not found:
        found = commands.units_of_variables(script.variables, source)
    env = {name: commands.env_setting(name, held) for name, held in script.exports.items() if held.words is None}
    for unit in found:
        if unit.source is source:
            env |= {name: held for name, held in unit.env.items() if name not in env}
    for extra in (commands.env_unit(source, env), sbatch_unit(source, script.comments)):
        if extra:
            found.insert(0, extra)
    for document in script.documents:
        if document.target and re.search(r"\.(json|ya?ml|toml|sh)$", document.target):
            found += units_of_text(document.source)
    batch = next((unit for unit in found if unit.tool == "slurm"), None)
    for unit in found:
        if unit.tool == "srun" and batch is not None and unit.launcher is None:
            unit.launcher = batch
    return found


def _env_file(source: SourceFile) -> list[Unit]:
    settings: dict[str, Setting] = {}
    for match in re.finditer(r"^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)=([^\n]*)$", source.text, re.MULTILINE):
        key = Span(source, match.start(1), match.end(1))
        value = match[2].strip().strip("\"'")
        settings[match[1]] = Setting(match[1], value, key, Span(source, match.start(2), match.end(2)), match[1], "env")
    unit = commands.env_unit(source, settings)
    return [unit] if unit else []


def _document(document: Node, syntax: Syntax, reading: Reading) -> list[Unit]:
    if not isinstance(document, Mapping) or not document.entries:
        return []
    found = units_of_document(document, syntax)
    if not found and is_model_config(document):
        reading.model = plain(document)
    return found

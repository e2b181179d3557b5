"""From the words of a command line to units: which tool it starts, through which launchers, with which options."""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping as Dictionary
from collections.abc import Sequence as Words
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from advisor_mcp.linting.flag_words import after, parse_options
from advisor_mcp.linting.scripts import tool_of_script
from advisor_mcp.linting.shell import Command, Variable, read_shell
from advisor_mcp.linting.slurm import SLURM_SHORT, SLURM_SWITCHES
from advisor_mcp.linting.source import SourceFile, Span
from advisor_mcp.linting.tree import UNKNOWN
from advisor_mcp.linting.unit import Setting, Unit
from advisor_mcp.linting.words import HOLE, Word, joined, split


@dataclass
class Line:
    """A command line that is being taken apart: what is left of its words, and what surrounds it."""

    words: tuple[Word, ...]
    env: dict[str, Setting]
    source: SourceFile
    span: Span
    conditional: bool = False
    launcher: Unit | None = None
    container: Unit | None = None

    def after(self, count: int) -> Line:
        """The same line without its first words."""
        return replace(self, words=self.words[count:])


def units_of_command(command: Command, source: SourceFile) -> list[Unit]:
    """The units that a simple command of a script starts."""
    env = {name: env_setting(name, held) for name, held in command.env.items() if held.exported and held.words is None}
    return units_of_line(Line(command.words, env, source, command.span, command.conditional))


def units_of_variables(variables: Dictionary[str, Variable], source: SourceFile) -> list[Unit]:
    """The unit of a script that only collects a tool's options in a variable, for another script to use."""
    found: list[Unit] = []
    for held in variables.values():
        words = held.words if held.words is not None else tuple(split(held.value, held.name))
        if sum(word.text.startswith("--") for word in words) < 3:
            continue
        tool, scope = tool_of_script("", [word.text for word in words])
        if tool != "script":
            found.append(tool_unit(Line(words, {}, source, held.name), tool, scope, words, ""))
            found[-1].open = True
    return found


def env_setting(name: str, held: Variable) -> Setting:
    """A variable of a script as a setting."""
    text = joined(held.value)
    place = held.name
    if held.value and held.value[0].source is held.name.source:
        first, last = held.value[0], held.value[-1]
        place = Span(
            first.source, first.start, last.end if last.source is first.source and last.end > first.start else first.end
        )
    return Setting(name, UNKNOWN if HOLE in text else text, held.name, place, name, "env")


def units_of_line(line: Line) -> list[Unit]:
    """The units that a command line starts, launchers first."""
    for _ in range(20):
        if not line.words:
            return []
        name = PurePosixPath(line.words[0].text).name
        assignment = re.match(r"([A-Za-z_]\w*)=", line.words[0].text)
        if assignment:
            word = line.words[0]
            line.env = line.env | {assignment[1]: _env_word(assignment[1], word)}
            line = line.after(1)
        elif name in _PREFIXES:
            line = _PREFIXES[name](line)
        else:
            break
    if not line.words:
        return []
    name = PurePosixPath(line.words[0].text).name
    if handler := _PROGRAMS.get(name):
        return handler(line)
    if re.fullmatch(r"python[\d.]*", name) or ("python" in name and line.words[0].text.endswith("python")):
        return _python(line.after(1))
    if name.endswith(".py"):
        return _script(line)
    if HOLE in line.words[0].text:
        return _after_unknown(line)
    return []


def _env_word(name: str, word: Word) -> Setting:
    text = word.text[len(name) + 1 :]
    place = word.sub(len(name) + 1) if text else word.span
    key = Span(word.span.source, word.span.start, word.span.start + len(name))
    return Setting(name, UNKNOWN if HOLE in text else text, key, place, name, "env")


def tool_unit(
    line: Line, tool: str, scope: str, words: Words[Word], program: str, positional: str | None = None
) -> Unit:
    """The unit of a tool whose options are these words; the first positional is `positional`'s value."""
    target = line.container.target if line.container and line.container.target else None
    options = parse_options(words, tool, scope, target=target)
    settings = options.settings
    if positional and options.positionals and positional not in settings:
        word = options.positionals[0]
        value = word.text if word.known else UNKNOWN
        settings[positional] = Setting(positional, value, word.span, word.span, positional, "shell")
    return Unit(
        tool, line.source, line.words[0].span if line.words else line.span, scope, None, settings, line.env, options.open, program,
        tuple(word.text for word in options.positionals), line.launcher, line.container, conditional=line.conditional, target=target,
    )  # fmt: skip


# ---- prefixes: words that run what follows ----

_VALUED_PREFIX_FLAGS: Dictionary[str, frozenset[str]] = {
    "env": frozenset({"-u", "--unset", "-C", "--chdir"}),
    "nice": frozenset({"-n"}),
    "timeout": frozenset({"-k", "-s", "--signal", "--kill-after"}),
    "numactl": frozenset({"-C", "-N", "-m", "-l"}),
    "taskset": frozenset({"-c"}),
    "sudo": frozenset({"-u", "-g", "-E"}) - {"-E"},
    "stdbuf": frozenset(),
    "nohup": frozenset(),
    "exec": frozenset(),
    "time": frozenset(),
    "command": frozenset(),
    "then": frozenset(),
    "eval": frozenset(),
    "setsid": frozenset(),
}


def _prefix(line: Line) -> Line:
    name = PurePosixPath(line.words[0].text).name
    valued = _VALUED_PREFIX_FLAGS.get(name, frozenset())
    at = 1
    while at < len(line.words) and line.words[at].text.startswith("-"):
        at += 2 if line.words[at].text in valued else 1
    if name == "timeout" and at < len(line.words):
        at += 1
    if name == "taskset" and at < len(line.words) and "-c" not in [w.text for w in line.words[1:at]]:
        at += 1
    return line.after(at)


def _tool_prefix(line: Line) -> Line:
    """`nsys profile`, `ncu`, `coverage run`, `uv run`: skip to the next program that is known."""
    for at, word in enumerate(line.words[1:], 1):
        base = PurePosixPath(word.text).name
        if base in _PROGRAMS or re.fullmatch(r"python[\d.]*", base):
            return line.after(at)
    return line.after(len(line.words))


_PREFIXES: Dictionary[str, Callable[[Line], Line]] = dict.fromkeys(_VALUED_PREFIX_FLAGS, _prefix) | dict.fromkeys(
    (
        "nsys",
        "ncu",
        "uv",
        "uvx",
        "poetry",
        "conda",
        "micromamba",
        "pixi",
        "dlprof",
        "rocprof",
        "rocprofv3",
        "catchsegv",
    ),
    _tool_prefix,
)


def _after_unknown(line: Line) -> list[Unit]:
    """`$LAUNCHER script.py ...`: what the variable starts is unknown, the script behind it is not."""
    for at, word in enumerate(line.words[1:], 1):
        base = PurePosixPath(word.text).name
        if base in _PROGRAMS or base.endswith(".py") or re.fullmatch(r"python[\d.]*", base):
            return units_of_line(line.after(at))
    return []


# ---- programs ----


def _python(line: Line) -> list[Unit]:
    at = 0
    while at < len(line.words) and line.words[at].text.startswith("-") and line.words[at].text not in ("-m", "-c"):
        at += 2 if line.words[at].text in ("-X", "-W") else 1
    if at >= len(line.words) or line.words[at].text == "-c":
        return []
    if line.words[at].text == "-m":
        return _module(line.after(at + 1))
    return _script(line.after(at)) if not line.words[at].spreads else _after_unknown(line.after(at))


def _module(line: Line) -> list[Unit]:
    if not line.words:
        return []
    name = line.words[0].text
    if name in ("torch.distributed.run", "torch.distributed.launch"):
        return _torchrun(line)
    if name in ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.api_server"):
        return [tool_unit(line, "vllm", "serve", line.words[1:], name)]
    if name in ("sglang.launch_server", "sglang.srt.server"):
        return [tool_unit(line, "sglang", "serve", line.words[1:], name)]
    if name in ("accelerate.commands.launch", "accelerate.commands.accelerate_cli"):
        return _accelerate(line)
    if name == "deepspeed.launcher.runner":
        return _deepspeed(line)
    if name.startswith("axolotl.cli"):
        return [tool_unit(line, "axolotl_cli", "", line.words[1:], name)]
    if name == "llama_cpp.server":
        return []
    return _script(line)


def _torchrun(line: Line) -> list[Unit]:
    return _launched(line, "torchrun", "", line.words[0].text)


def _accelerate(line: Line) -> list[Unit]:
    if len(line.words) > 1 and line.words[1].text == "launch":
        return _launched(line, "accelerate_launch", "launch", "accelerate launch", skip=2)
    if line.words[0].text.endswith("launch"):
        return _launched(line, "accelerate_launch", "launch", "accelerate launch")
    return []


def _deepspeed(line: Line) -> list[Unit]:
    return _launched(line, "deepspeed_launcher", "launcher", "deepspeed")


def _launched(line: Line, tool: str, scope: str, program: str, skip: int = 1) -> list[Unit]:
    options = parse_options(line.words[skip:], tool, scope, stop=True)
    unit = Unit(
        tool, line.source, line.words[0].span, scope, None, options.settings, line.env, options.open, program,
        launcher=line.launcher, container=line.container, conditional=line.conditional,
    )  # fmt: skip
    if not options.rest:
        return [unit]
    inner = replace(line, words=options.rest, launcher=unit)
    unit.entry_point = options.rest[0].text
    unit.arguments = tuple(word.text for word in options.rest)
    if "module" in options.settings or "m" in options.settings:
        named = options.settings.get("module", options.settings.get("m"))
        if named is not None and isinstance(named.value, str):  # `-m NAME`: the option took the module's name
            unit.entry_point = named.value
            return [unit, *_script(inner, named.value)]
        return [unit, *_module(inner)]
    return [unit, *units_of_line(inner)] if not options.rest[0].text.endswith(".py") else [unit, *_script(inner)]


def _script(line: Line, name: str | None = None) -> list[Unit]:
    words = line.words if name else line.words[1:]
    entry = name or (line.words[0].text if line.words else "")
    tool, scope = tool_of_script(entry, [word.text for word in words])
    if tool == "deepspeed_script":
        tool = "script"
    unit = tool_unit(line, tool, scope, words, entry)
    unit.entry_point = entry
    return [unit]


def _vllm(line: Line) -> list[Unit]:
    if len(line.words) < 2 or line.words[1].text != "serve":
        return []
    return [tool_unit(line, "vllm", "serve", line.words[2:], "vllm serve", "model_tag")]


def _sglang(line: Line) -> list[Unit]:
    if len(line.words) < 2 or line.words[1].text != "serve":
        return []
    return [tool_unit(line, "sglang", "serve", line.words[2:], "sglang serve", "model_path")]


def _llama_cpp(line: Line) -> list[Unit]:
    name = PurePosixPath(line.words[0].text).name
    return [tool_unit(line, "llama.cpp", "server" if "server" in name else "cli", line.words[1:], name)]


def _server(line: Line) -> list[Unit]:
    flags = {word.text for word in line.words}
    return _llama_cpp(line) if flags & {"-m", "--model", "-hf", "-ngl"} else []


def _trtllm(line: Line) -> list[Unit]:
    words = line.words[2:] if len(line.words) > 1 and line.words[1].text in ("serve", "bench") else line.words[1:]
    return [tool_unit(line, "tensorrt-llm", "serve", words, line.words[0].text, "model")]


def _trtllm_build(line: Line) -> list[Unit]:
    return [tool_unit(line, "tensorrt-llm", "build", line.words[1:], "trtllm-build")]


def _llamafactory(line: Line) -> list[Unit]:
    if len(line.words) < 2:
        return []
    unit = tool_unit(line, "llamafactory", "", line.words[2:], f"llamafactory-cli {line.words[1].text}")
    return [_with_assignments(unit, line.words[2:])]


def _with_assignments(unit: Unit, words: Words[Word]) -> Unit:
    """`key=value` arguments beside a configuration file."""
    for word in words:
        name, equals, value = word.text.partition("=")
        if equals and re.fullmatch(r"[A-Za-z_][\w.]*", name):
            key = Span(word.span.source, word.span.start, min(word.span.start + len(name), word.span.end))
            unit.settings[name] = Setting(
                name, UNKNOWN if HOLE in value else value, key, word.sub(len(name) + 1), name, "shell"
            )
    return unit


def _trl(line: Line) -> list[Unit]:
    if len(line.words) < 2:
        return []
    return [tool_unit(line, "trl", line.words[1].text, line.words[2:], f"trl {line.words[1].text}")]


def _axolotl(line: Line) -> list[Unit]:
    return [tool_unit(line, "axolotl_cli", "", line.words[2:], "axolotl")] if len(line.words) > 1 else []


def _tune(line: Line) -> list[Unit]:
    if len(line.words) < 2 or line.words[1].text != "run":
        return []
    options = parse_options(line.words[2:], "torchrun", "", stop=True)
    launcher = Unit(
        "torchrun", line.source, line.words[0].span, "", None, options.settings, line.env, options.open, "tune run"
    )
    launcher.entry_point = options.rest[0].text if options.rest else ""
    launcher.arguments = tuple(word.text for word in options.rest)
    return [launcher]


def _srun(line: Line) -> list[Unit]:
    at, words = 1, line.words
    settings: dict[str, Setting] = {}
    opened = False
    while at < len(words):
        word = words[at]
        if word.spreads:
            opened, at = True, at + 1
            continue
        if not word.text.startswith("-"):
            break
        written, equals, tail = word.text.partition("=")
        name = SLURM_SHORT.get(written, written.lstrip("-").replace("-", "_"))
        key = Span(word.span.source, word.span.start, min(word.span.start + len(written), word.span.end))
        at += 1
        if equals:
            settings[name] = Setting(
                name, UNKNOWN if HOLE in tail else tail, key, word.sub(len(written) + 1), written, "shell"
            )
        elif written in SLURM_SWITCHES or at >= len(words):
            settings[name] = Setting(name, True, key, key, written, "shell")
        elif len(written) > 2 and not written.startswith("--"):
            name, value = SLURM_SHORT.get(written[:2], written[1:2]), written[2:]
            settings[name] = Setting(name, value, key, key, written, "shell")
        else:
            value_word = words[at]
            at += 1
            settings[name] = Setting(
                name, value_word.text if value_word.known else UNKNOWN, key, value_word.span, written, "shell"
            )
    unit = Unit(
        "srun", line.source, words[0].span, "", None, settings, line.env, opened, "srun", conditional=line.conditional
    )
    unit.arguments = tuple(word.text for word in words[at:])
    inner = replace(line, words=words[at:], launcher=unit)
    return [unit, *units_of_line(inner)]


def _mpirun(line: Line) -> list[Unit]:
    return units_of_line(_tool_prefix(line))


def _nested_shell(line: Line) -> list[Unit]:
    for at, word in enumerate(line.words[1:], 1):
        if (
            word.text.startswith("-")
            and "c" in word.text
            and not word.text.startswith("--")
            and at + 1 < len(line.words)
        ):
            return nested(line.words[at + 1], line)
    return []


def nested(word: Word, line: Line) -> list[Unit]:
    """The units of a script that stands in one word (`bash -c "..."`, a container's command)."""
    if not word.pieces:
        return []
    text = word.text.replace(HOLE, "$UNSET")
    offsets = list[int]()
    for char, offset in zip(word.text, word.offsets, strict=True):
        offsets += [offset] * (len("$UNSET") if char == HOLE else 1)
    inner = word.pieces[0].source.embedded(text, offsets)
    script = read_shell(inner)
    found: list[Unit] = []
    for command in script.commands:
        env = {n: env_setting(n, held) for n, held in command.env.items() if held.exported and held.words is None}
        found += units_of_line(
            Line(
                command.words,
                line.env | env,
                inner,
                command.span,
                line.conditional or command.conditional,
                line.launcher,
                line.container,
            )
        )
    return found


DOCKER_VALUED = {
    "-v", "--volume", "-e", "--env", "-p", "--publish", "--name", "--gpus", "--ipc", "--shm-size", "--network", "--net", "-w", "--workdir",
    "--entrypoint", "--mount", "-u", "--user", "--ulimit", "--device", "--runtime", "--env-file", "--restart", "--hostname", "-h", "-m",
    "--memory", "--cpus", "--cpuset-cpus", "--group-add", "--security-opt", "--cap-add", "-l", "--label", "--add-host", "--pid",
    "--platform", "--log-driver", "--log-opt", "--pull", "--uts",
}  # fmt: skip


def _docker(line: Line) -> list[Unit]:
    if len(line.words) < 2 or line.words[1].text != "run":
        return []
    settings, env, at, opened = dict[str, Setting](), dict[str, Setting](), 2, False
    while at < len(line.words):
        word = line.words[at]
        if word.spreads:
            opened, at = True, at + 1
            continue
        if not word.text.startswith("-"):
            break
        written, equals, tail = word.text.partition("=")
        key = Span(word.span.source, word.span.start, min(word.span.start + len(written), word.span.end))
        at += 1
        value = word
        if not equals and written in DOCKER_VALUED and at < len(line.words):
            value, at = line.words[at], at + 1
            tail = value.text
        if written in ("-e", "--env"):
            name = tail.partition("=")[0]
            if "=" in tail and re.fullmatch(r"\w+", name):
                env[name] = _env_word(name, value if not equals else after(word, len(written) + 1))
            continue
        name = written.lstrip("-").replace("-", "_")
        name = {"net": "network"}.get(name, name)
        place = word.sub(len(written) + 1) if equals else value.span if value is not word else key
        settings[name] = Setting(
            name, (UNKNOWN if HOLE in tail else tail) if tail else True, key, place, written, "shell"
        )
    unit = Unit(
        "docker",
        line.source,
        line.words[0].span,
        "",
        None,
        settings,
        env,
        opened,
        "docker run",
        conditional=line.conditional,
    )
    if at >= len(line.words):
        return [unit]
    image = line.words[at].text
    unit.entry_point, unit.target = image, None
    inner = replace(line, words=line.words[at + 1 :], env=line.env | env, container=unit)
    entry = settings.get("entrypoint")
    return [unit, *units_of_image(image, inner, entry.value if entry and isinstance(entry.value, str) else "")]


_IMAGES = (
    (re.compile(r"vllm-openai|(^|/)vllm(:|$)|vllm-rocm|pytorch-vllm"), "vllm"),
    (re.compile(r"llama\.cpp|llama-cpp|ghcr\.io/ggml"), "llama.cpp"),
)


def units_of_image(image: str, line: Line, entry_point: str = "") -> list[Unit]:
    """The units of a container: what its words start, or the image's own entry point where they are options alone."""
    if line.container is not None:
        tag = image.rpartition(":")[2] if ":" in PurePosixPath(image).name else ""
        line.container.target = (
            tag if re.match(r"v?\d+\.\d+", tag) and any(p.search(image) for p, _ in _IMAGES) else None
        )
    first = line.words[0].text if line.words else ""
    starts = first != "" and not first.startswith("-")
    if starts and (found := units_of_line(line)):
        return found
    if entry_point:
        return []  # the container starts something else
    tool = next((tool for pattern, tool in _IMAGES if pattern.search(image)), None)
    if tool is None or (starts and tool != "vllm"):
        return []
    if tool == "vllm":
        return [tool_unit(line, "vllm", "serve", line.words, "vllm serve", "model_tag")]
    return [tool_unit(line, tool, "server", line.words, "llama-server")]


_PROGRAMS: dict[str, Callable[[Line], list[Unit]]] = {
    "torchrun": _torchrun,
    "accelerate": _accelerate,
    "accelerate-launch": _accelerate,
    "deepspeed": _deepspeed,
    "vllm": _vllm,
    "sglang": _sglang,
    "llama-server": _llama_cpp,
    "llama-cli": _llama_cpp,
    "server": _server,
    "trtllm-serve": _trtllm,
    "trtllm-llmapi-launch": lambda line: units_of_line(line.after(1)),
    "trtllm-build": _trtllm_build,
    "llamafactory-cli": _llamafactory,
    "trl": _trl,
    "axolotl": _axolotl,
    "tune": _tune,
    "srun": _srun,
    "mpirun": _mpirun,
    "mpiexec": _mpirun,
    "bash": _nested_shell,
    "sh": _nested_shell,
    "docker": _docker,
    "podman": _docker,
}


def env_unit(source: SourceFile, env: Dictionary[str, Setting]) -> Unit | None:
    """The unit of a script's or container's environment."""
    if not env:
        return None
    first = min(env.values(), key=lambda setting: setting.key.start)
    return Unit("env", source, first.key, "env", None, dict(env))

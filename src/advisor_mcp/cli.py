"""The command line: one sub-command per tool, made from the catalogue, and a few verbs.

Only the parser of the sub-command asked for is built, only its tool is imported, and never the MCP SDK to calculate.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

from advisor_mcp import __version__, access, batch, catalogue, content, flags, terminal
from advisor_mcp.errors import AdvisorError, InternalError, UsageError, error_json, shown
from advisor_mcp.flags import PROGRAM, Parser

if TYPE_CHECKING:
    from advisor_mcp.catalogue import Catalogue

Load: TypeAlias = "Callable[[], Catalogue]"
ANSWERED, FINDINGS, INTERRUPTED = 0, 1, 130
DEBUG = "ADVISOR_MCP_DEBUG"
HELP_WIDTH = 100
_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 answered or clean, 1 findings or does not fit, 2 wrong usage, 3 cannot answer, 4 internal, 130 interrupted. An
    error is one sentence on stderr, or with `--json` the JSON of the error on stdout. A closed stdout ends it quietly.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        _prepare_streams()
        code = _run(given)
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()
        return ANSWERED
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _run(given: list[str]) -> int:
    try:
        return _dispatch(given)
    except AdvisorError as error:
        return _report(error, as_json="--json" in given)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as problem:
        _log.exception("the command failed")
        fault = InternalError(
            f"the command failed on a fault of its own ({type(problem).__name__}); {DEBUG}=1 says where"
        )
        return _report(fault, as_json="--json" in given)


def _report(error: AdvisorError, as_json: bool) -> int:
    if as_json:
        print(json.dumps(error_json(error), ensure_ascii=False))
    else:
        needs = f"; needs: {', '.join(error.needs)}" if error.needs else ""
        print(f"{PROGRAM}: {_one_line(error.message + needs)}", file=sys.stderr)
    return error.exit_code


def _one_line(text: str) -> str:
    return " ".join(terminal.without_controls(text).split())


def _prepare_streams() -> None:
    """Let no character that a stream cannot hold end a command, and keep tracebacks for those who ask for them."""
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace"), (sys.stdin, "surrogateescape")):
        reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
        if reconfigure:
            # a stream that was read before keeps its encoding
            with suppress(OSError, ValueError):
                reconfigure(errors=errors) if stream.isatty() else reconfigure(encoding="utf-8", errors=errors)
    if os.environ.get(DEBUG):
        logging.basicConfig(stream=sys.stderr, level=logging.DEBUG)
    elif not (ours := logging.getLogger("advisor_mcp")).handlers:
        ours.addHandler(logging.NullHandler())


def _abandon_stdout() -> None:
    # otherwise the interpreter flushes what is left on its way out and complains that nobody reads it
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(given: list[str]) -> int:
    folders, words = _content_folders(given)
    access.allow_hub("--allow-hub" in words)
    words = [word for word in words if word != "--allow-hub"]
    if "--version" in words[:1]:
        print(f"{PROGRAM} {__version__}")
        return ANSWERED
    load = partial(catalogue.build, [*content.named_by_environment(), *folders])
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview(load()))
        return ANSWERED
    if verb := VERBS.get(words[0]):
        return verb[1](load, words[1:])
    found = load()
    return _tool(found, _named(found, words[0]), words[1:])


def _content_folders(given: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The folders of every `--content DIR`, wherever it stands, and the words that are left."""
    folders, rest, at = list[Path](), list[str](), 0
    while at < len(given) and given[at] != "--":
        word, at = given[at], at + 1
        if word == "--content":
            if at == len(given):
                raise UsageError("--content needs a folder; write --content DIR")
            folders.append(access.expanded(given[at]))
            at += 1
        elif word.startswith("--content="):
            folders.append(access.expanded(word.removeprefix("--content=")))
        else:
            rest.append(word)
    return folders, [*rest, *given[at:]]


def _named(found: Catalogue, word: str) -> str:
    """The tool that a sub-command names, by its command or by its own name; raises `UsageError` for neither."""
    commands = {entry.command: name for name, entry in found.tools.items()}
    if word in commands or word in found.tools:
        return commands.get(word, word)
    if word.startswith("-"):
        raise flags.unknown("option", word, ["--allow-hub", "--content", "--help", "--version"])
    error = flags.unknown("command", word, [*VERBS, *commands])
    if found.problems:
        unserved = f"{len(found.problems)} content files are not served; '{PROGRAM} list' says why"
        raise UsageError(f"{error.message} ({unserved})")
    raise error


def _overview(found: Catalogue) -> str:
    tools = [(entry.command, entry.title) for entry in found.tools.values()]
    verbs = [(name, verb[0]) for name, verb in VERBS.items()]
    column = max(len(name) for name, _ in tools + verbs) + 2
    lines = [
        f"{PROGRAM} {__version__}: personas and calculators for people who train and serve models",
        f"\nUsage: {PROGRAM} [--content DIR]... [--allow-hub] COMMAND [arguments]; '{PROGRAM} COMMAND --help' explains one",
    ]
    for title, rows in (("Tools", tools), ("Commands", verbs)):
        lines += [f"\n{title}:", *(f"  {name:<{column}}{said}" for name, said in rows)]
    return "\n".join([*lines, _OPTIONS])


_OPTIONS = """
Options:
  --content DIR  Serve the tools, personas and facts of this folder too (also ADVISOR_MCP_CONTENT)
  --allow-hub    Fetch the configuration of a model that is not known here from the Hugging Face hub, never weights
  --version      Print the version"""


# ---- tools ----


def _tool(found: Catalogue, name: str, given: Sequence[str]) -> int:
    entry = found.tools[name]
    if face := FACES.get(name):
        return face(given)
    call = flags.parse(entry, given)
    if call.help:
        print(flags.help_text(entry, HELP_WIDTH), end="")
        return ANSWERED
    if call.view:
        return _show(found, name, call)
    return _answer(found, name, call.arguments, call.as_json)


def _show(found: Catalogue, name: str, call: flags.Call) -> int:
    """Hand the call to one of the tool's views, which prints and says with which code to end."""
    from advisor_mcp.declaration import Shown

    tool, meter = found.declaration(name), batch.Meter()
    arguments = tool.validate(call.arguments)
    shown_as = Shown(arguments=arguments, value=call.value, options=call.options, as_json=call.as_json, progress=meter)
    try:
        return tool.views[call.view or ""].load()(shown_as)
    finally:
        meter.clear()


def _answer(found: Catalogue, name: str, arguments: Mapping[str, Any], as_json: bool) -> int:
    meter = batch.Meter()
    try:
        answer = found.call(name, arguments, meter)
    finally:
        meter.clear()
    data = answer.data()
    print(json.dumps(data, ensure_ascii=False, indent=2) if as_json else _styled(answer.text()))
    return exit_code(data)


def exit_code(answer: Mapping[str, Any]) -> int:
    """1 for an answer that says `fits: false` or lists findings, else 0; mere notes are none."""
    wrong = any(found.get("severity") != "info" for found in answer.get("findings") or ())
    return FINDINGS if answer.get("fits") is False or wrong else ANSWERED


def _styled(markdown: str) -> str:
    if not terminal.is_styled(sys.stdout, os.environ):
        return markdown
    return terminal.render(markdown, _columns())


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def _call(load: Load, given: Sequence[str]) -> int:
    parser = Parser(f"{PROGRAM} call", description="Call a tool with its arguments as JSON.")
    parser.add_argument("tool", help="the tool's name or command")
    parser.add_argument(
        "arguments", nargs="?", metavar="JSON", help="the arguments as a JSON object, @FILE, or - for standard input"
    )
    parser.add_argument("--args", metavar="JSON", help="the same, as an option")
    parser.add_argument(
        "--batch", metavar="FILE", help="arguments as a JSON object a line (- for standard input); an answer a line"
    )
    parser.add_argument("--json", action="store_true", help="print the structured answer as JSON")
    asked = _parsed(parser, given)
    if asked is None:
        return ANSWERED
    given_once = [each for each in (asked.arguments, asked.args, asked.batch) if each is not None]
    if len(given_once) != 1:
        raise UsageError(f"give the arguments once, as JSON, --args JSON or --batch FILE; see '{PROGRAM} call --help'")
    found = load()
    name = {entry.command: name for name, entry in found.tools.items()}.get(asked.tool, asked.tool)
    if asked.batch is not None:
        return _batch(found, name, asked.batch)
    return _answer(found, name, batch.arguments(_read(given_once[0])), asked.json)


def _read(text: str) -> str:
    if text == "-":
        return sys.stdin.read() if sys.stdin else ""
    return flags.read_text(text[1:]) if text.startswith("@") else text


def _batch(found: Catalogue, name: str, path: str) -> int:
    if path == "-":
        batch.run(found, name, sys.stdin or (), sys.stdout)
        return ANSWERED
    try:
        lines: TextIO = access.expanded(path).open(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "the path is not valid").lower()
        raise UsageError(f"cannot read {shown(path, flags.LONGEST_PATH)}: {reason}") from None
    with lines:
        batch.run(found, name, lines, sys.stdout, size=os.fstat(lines.fileno()).st_size)
    return ANSWERED


def _parsed(parser: Parser, given: Sequence[str]) -> Any | None:
    """The arguments, or None when only the help was asked for and printed."""
    if "-h" in given or "--help" in given:
        print(parser.format_help(), end="")
        return None
    return parser.parse_strictly(given)


# ---- verbs ----


def _list(load: Load, given: Sequence[str]) -> int:
    parser = Parser(f"{PROGRAM} list", description="List tools, personas and content files that are not served.")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    asked = _parsed(parser, given)
    if asked is not None:
        print(json.dumps(_listing(load()), ensure_ascii=False, indent=2) if asked.json else _listed(load()))
    return ANSWERED


def _listing(found: Catalogue) -> dict[str, Any]:
    tool_fields = ("name", "command", "title", "toolset", "description")
    return {
        "tools": [{key: getattr(entry, key) for key in tool_fields} for entry in found.tools.values()],
        "personas": [
            {key: getattr(e, key) for key in ("name", "title", "description")} for e in found.personas.values()
        ],
        "problems": [{"path": str(problem.path), "message": problem.message} for problem in found.problems],
    }


def _listed(found: Catalogue) -> str:
    column = max((len(name) for name in (*found.tools, *found.personas)), default=0) + 2
    groups: dict[str, list[str]] = {
        toolset: [] for toolset in sorted({entry.toolset for entry in found.tools.values()})
    }
    for entry in found.tools.values():
        groups[entry.toolset].append(f"{entry.name:<{column}}{_first_sentence(entry.description)}")
    groups["personas"] = [f"{p.name:<{column}}{_first_sentence(p.description)}" for p in found.personas.values()]
    groups["problems"] = [f"{problem.path}: {problem.message}" for problem in found.problems]
    return _styled_or_bare("\n".join(f"**{name}**\n  " + "\n  ".join(rows) for name, rows in groups.items() if rows))


def _styled_or_bare(text: str) -> str:
    return terminal.render(text, _columns()) if terminal.is_styled(sys.stdout, os.environ) else text.replace("**", "")


def _first_sentence(text: str) -> str:
    return text.split(". ")[0].rstrip(".")


def _persona(load: Load, given: Sequence[str]) -> int:
    parser = Parser(f"{PROGRAM} persona", description="List the personas, or show the briefing of one.")
    parser.add_argument("action", choices=("list", "show"), metavar="list|show")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the persona to show")
    parser.add_argument("--focus", metavar="TEXT", help="what to concentrate on")
    parser.add_argument("--depth", choices=("brief", "full"), default="full", help="how much of it (default: full)")
    asked = _parsed(parser, given)
    if asked is None:
        return ANSWERED
    found = load()
    if asked.action == "list":
        column = max((len(name) for name in found.personas), default=0) + 2
        print("\n".join(f"{p.name:<{column}}{_first_sentence(p.description)}" for p in found.personas.values()))
        return ANSWERED
    if asked.name is None:
        raise UsageError(f"name the persona to show (available: {', '.join(found.personas)})")
    print(_styled(_briefing(found, asked.name, asked.focus, asked.depth)))
    return ANSWERED


def _briefing(found: Catalogue, name: str, focus: str | None, depth: str) -> str:
    persona = found.persona(name)
    from advisor_mcp import knowledge
    from advisor_mcp.personas.rendering import render_persona

    return render_persona(persona, focus=focus, depth=depth, facts=knowledge.find)


def _serve(load: Load, given: Sequence[str]) -> int:
    parser = Parser(f"{PROGRAM} serve", description="Serve MCP over standard input and output, or over HTTP.")
    parser.add_argument("--http", metavar="HOST:PORT", help="serve Streamable HTTP at /mcp of this address")
    parser.add_argument("--root", metavar="DIR", type=Path, help="with --http: let calls read files below this folder")
    parser.add_argument(
        "--allowed-host", metavar="HOST", action="append", default=[], help="with --http: a host that clients use"
    )
    parser.add_argument(
        "--prometheus", metavar="URL", help="the Prometheus that calls may ask; over HTTP they may ask no other"
    )
    parser.add_argument("--toolsets", metavar="A,B", type=_names, help="serve only these toolsets")
    parser.add_argument(
        "--tools", metavar="A,B", type=_names, help="serve only these tools; with --toolsets, these too"
    )
    asked = _parsed(parser, given)
    if asked is None:
        return ANSWERED
    if asked.http is None and (asked.root or asked.allowed_host):
        raise UsageError("--root and --allowed-host are for --http HOST:PORT; over stdio every path is the user's own")
    access.allow_prometheus(asked.prometheus)
    found = load()
    served = found.select(asked.toolsets, asked.tools)
    from advisor_mcp import server

    for problem in found.problems:
        print(f"{PROGRAM}: {problem.path} is not served: {problem.message}", file=sys.stderr)
    if asked.http is None:
        server.serve_stdio(served)
    else:
        host, port = address(asked.http)
        server.serve_http(host, port, catalogue=served, root=asked.root, allowed_hosts=asked.allowed_host)
    return ANSWERED


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def address(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``[IPv6]:PORT``, ``:PORT`` or ``PORT``; raises `UsageError` otherwise."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port[:6]) <= 65_535) or (":" in host and host[:1] != "["):
        raise UsageError(f"--http must be HOST:PORT with a port up to 65535, not {shown(text)}")
    return host.strip("[]") or "127.0.0.1", int(port)


def _demo(load: Load, given: Sequence[str]) -> int:
    parser = Parser(f"{PROGRAM} demo", description="Ask the server a sizing question as a client would.")
    if _parsed(parser, given) is None:
        return ANSWERED
    from advisor_mcp import demo

    print(_styled(demo.run(load().folders)))
    return ANSWERED


def _doctor(load: Load, given: Sequence[str]) -> int:
    parser = Parser(f"{PROGRAM} doctor", description="Check the installation, its GPUs and its clients.")
    parser.add_argument("--json", action="store_true", help="print the checks as a JSON list")
    asked = _parsed(parser, given)
    if asked is None:
        return ANSWERED
    from advisor_mcp import doctor

    checks = doctor.examine(os.environ, problems=_problems(load))
    told = [asdict(check) for check in checks]
    lines = (doctor.format_check(check) for check in checks)
    print(json.dumps(told, ensure_ascii=False, indent=2) if asked.json else "\n".join(lines))
    return doctor.exit_code(checks)


def _problems(load: Load) -> list[tuple[str | Path, str]]:
    try:
        return [(problem.path, problem.message) for problem in load().problems]
    except (AdvisorError, OSError, ValueError, KeyError, TypeError) as error:
        return [("the built-in catalogue", f"it cannot be read ({type(error).__name__}); install {PROGRAM} again")]


def _lint(given: Sequence[str]) -> int:
    from advisor_mcp import lint_command

    return lint_command.lint(given)


def _rule(load: Load, given: Sequence[str]) -> int:
    from advisor_mcp import lint_command

    return lint_command.rule(given)


def _benchmark_device(load: Load, given: Sequence[str]) -> int:
    from advisor_mcp import benchmark_command

    return _printed(benchmark_command.benchmark_parser(), given, benchmark_command.benchmark)


def _measurements(load: Load, given: Sequence[str]) -> int:
    from advisor_mcp import benchmark_command

    return _printed(benchmark_command.measurements_parser(), given, benchmark_command.recorded)


def _printed(parser: Parser, given: Sequence[str], answer: Callable[[Any], str]) -> int:
    asked = _parsed(parser, given)
    if asked is not None:
        text = answer(asked)
        print(text if asked.as_json else _styled(text))
    return ANSWERED


def _install(load: Load, given: Sequence[str]) -> int:
    parser = Parser(f"{PROGRAM} install", description="Add this server to a client's configuration.")
    parser.add_argument("client", metavar="CLIENT", help="claude-code, claude-desktop, cursor, vscode, codex or gemini")
    parser.add_argument("--print", dest="print_only", action="store_true", help="print what would be written")
    asked = _parsed(parser, given)
    if asked is None:
        return ANSWERED
    from advisor_mcp import connecting

    client = connecting.find_client(asked.client)
    report = connecting.install(client, connecting.server_command(), os.environ, print_only=asked.print_only)
    if asked.print_only:
        print(report.text, end="")
    print(report.sentence, file=sys.stderr if asked.print_only else sys.stdout)
    return ANSWERED


# tools whose command has more than their arguments: formats to print, files to change
FACES: dict[str, Callable[[Sequence[str]], int]] = {"lint_config": _lint}

VERBS: dict[str, tuple[str, Callable[[Load, Sequence[str]], int]]] = {
    "serve": ("Start the MCP server, over stdio or HTTP", _serve),
    "list": ("List the tools and personas", _list),
    "call": ("Call a tool with JSON arguments, one call or a file of them", _call),
    "persona": ("List the personas or show a briefing", _persona),
    "demo": ("See a question answered through the server", _demo),
    "doctor": ("Check this installation", _doctor),
    "rule": ("Explain a rule of the linter, or list them", _rule),
    "benchmark-device": ("Measure what this machine's device reaches", _benchmark_device),
    "measurements": ("List or forget what was measured here", _measurements),
    "install": ("Add the server to a client's configuration", _install),
}

"""The command line, driven in process over toy tools."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.samples import DOUBLER, HEAD

from advisor_mcp import __version__, access, cli, content, terminal
from advisor_mcp.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("root")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(words)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def doubler_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "tools").mkdir(parents=True)
    (folder / "tools" / "doubler.py").write_text(HEAD + DOUBLER, encoding="utf-8")
    return folder


def test_a_tool_is_a_command_and_prints_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    text = "The product is 10.5.\n- **product**: 10.5\n"
    assert run(capsys, "scale", "3", "1.5", "2") == (0, text, "")


def test_json_prints_the_whole_structured_answer(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "judge", "bad", "--json")
    assert (code, err) == (1, "")
    assert json.loads(out) == {
        "summary": "It is bad.",
        "assumptions": [],
        "warnings": [],
        "sources": [],
        "findings": [{"rule": "R1", "harm": "slow | costly"}, {"rule": "R2", "harm": "wrong"}],
    }


@pytest.mark.parametrize(("what", "code"), [("fits", 0), ("tight", 1), ("bad", 1), ("unknown", 3), ("broken", 4)])
def test_the_exit_code_says_how_it_went(capsys: pytest.CaptureFixture[str], what: str, code: int) -> None:
    assert run(capsys, "judge", what)[0] == code


def test_an_error_is_one_sentence_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "judge", "unknown") == (
        3,
        "",
        "advisor-mcp: the configuration has no vocab_size; needs: vocab_size, hidden_size\n",
    )
    assert run(capsys, "judge", "broken") == (
        4,
        "",
        "advisor-mcp: judge failed on a fault of its own; please report the arguments you gave\n",
    )


def test_an_error_under_json_is_json_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "judge", "unknown", "--json")
    needs = ["vocab_size", "hidden_size"]
    error = {"kind": "cannot_answer", "message": "the configuration has no vocab_size", "needs": needs}
    assert (code, json.loads(out), err) == (3, {"error": error}, "")


def test_the_declaration_words_the_errors_of_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "scale", "1.5", "2") == (
        2,
        "",
        "advisor-mcp: scale: factor must be a whole number, not '1.5'\n",
    )
    assert run(capsys, "scale", "1") == (2, "", "advisor-mcp: scale: values is required\n")


def test_an_error_keeps_to_one_line_and_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "scale", "1", "2", "--sign", "a\nb\x1b[31m")
    assert (code, err.count("\n"), "\x1b" in err) == (2, 1, False)


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "scael") == (2, "", "advisor-mcp: unknown command 'scael'; did you mean 'scale'?\n")
    assert run(capsys, "lits") == (2, "", "advisor-mcp: unknown command 'lits'; did you mean 'list'?\n")
    assert run(capsys, "qqqqq") == (2, "", "advisor-mcp: unknown command 'qqqqq'; see 'advisor-mcp --help'\n")
    assert run(capsys, "--vresion") == (2, "", "advisor-mcp: unknown option '--vresion'; did you mean '--version'?\n")


def test_a_tool_answers_to_its_command_and_to_its_own_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "show", "m") == run(capsys, "show-it", "m")


def test_nothing_asked_gives_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    assert run(capsys, "--help") == (0, out, "")
    assert out.startswith(f"advisor-mcp {__version__}: ")
    rows = [line.split(maxsplit=1) for line in out.splitlines() if line.startswith("  ")]
    for row in (
        ["scale", "Scale numbers"],
        ["show-it", "Show arguments"],
        ["serve", "Start the MCP server, over stdio or HTTP"],
    ):
        assert row in rows


def test_the_version_needs_no_catalogue(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "built_in", lambda: Path("/nowhere"))
    assert run(capsys, "--version") == (0, f"advisor-mcp {__version__}\n", "")


def test_a_broken_installation_is_told_in_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "built_in", lambda: Path("/nowhere"))
    fault = "the command failed on a fault of its own (FileNotFoundError); ADVISOR_MCP_DEBUG=1 says where"
    assert run(capsys, "list") == (4, "", f"advisor-mcp: {fault}\n")


@pytest.mark.parametrize("verb", ["serve", "list", "call", "persona", "demo", "doctor", "install"])
def test_every_verb_explains_itself(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, out, err = run(capsys, verb, "--help")
    assert (code, err, out.startswith(f"usage: advisor-mcp {verb}")) == (0, "", True)


def test_a_tool_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "scale", "--help")
    assert (code, out.startswith("advisor-mcp scale FACTOR VALUES... [options]\n")) == (0, True)


@pytest.mark.parametrize("verb", ["serve", "list", "call", "persona", "demo", "doctor", "install"])
def test_every_verb_refuses_an_option_it_does_not_know(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, out, err = run(capsys, verb, *(["x"] if verb in ("call", "install") else []), "--nosuch")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_list_shows_tools_by_toolset_personas_and_problems(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = doubler_folder(tmp_path)
    (folder / "tools" / "broken.py").write_text("import nothing_of_this_name", encoding="utf-8")
    assert run(capsys, "list", "--content", str(folder)) == (
        0,
        f"""\
config
  show     Show the arguments as they arrived
sizing
  doubler  Double a number
  judge    Say whether a thing is in order
  scale    Multiply some numbers by a factor
  stepper  Report each of some steps
personas
  sage     Thinks before it speaks
problems
  {folder}/tools/broken.py: it failed to load: ModuleNotFoundError: No module named 'nothing_of_this_name'
""",
        "",
    )


def test_list_as_json_holds_names_commands_and_problems(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, out, _ = run(capsys, "--content", str(tmp_path / "none"), "list", "--json")
    listing = json.loads(out)
    assert [(tool["name"], tool["command"]) for tool in listing["tools"]] == [
        ("judge", "judge"),
        ("scale", "scale"),
        ("show", "show-it"),
        ("stepper", "stepper"),
    ]
    assert listing["personas"] == [
        {
            "name": "sage",
            "title": "Sage, an AI advisor",
            "description": "Thinks before it speaks. Use when haste would cost more.",
        }
    ]
    assert listing["problems"] == [{"path": str(tmp_path / "none"), "message": "the content folder does not exist"}]


@pytest.mark.parametrize("words", [("--content", "DIR", "doubler", "4"), ("doubler", "4", "--content=DIR")])
def test_a_content_folder_may_be_named_before_and_after_the_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    folder = str(doubler_folder(tmp_path))
    answer = (0, "The double is 8.\n- **double**: 8\n", "")
    assert run(capsys, *(word.replace("DIR", folder) for word in words)) == answer


def test_content_folders_of_the_environment_count_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(content.VARIABLE, str(doubler_folder(tmp_path)))
    assert run(capsys, "doubler", "4")[0] == 0


def test_an_unknown_command_points_to_content_that_is_not_served(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "--content", "/nowhere", "tripler")
    unserved = "(1 content files are not served; 'advisor-mcp list' says why)"
    assert (code, err) == (2, f"advisor-mcp: unknown command 'tripler'; see 'advisor-mcp --help' {unserved}\n")
    assert run(capsys, "list", "--content")[0] == 2


def test_a_persona_is_shown_whole_or_in_brief_and_with_a_focus(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "persona", "show", "sage", "--focus", "memory", "--depth", "brief")
    assert (code, out.splitlines()[0]) == (0, "I am Sage, an AI advisor. Focus: memory. In brief.")
    assert run(capsys, "persona", "show", "sage")[1].splitlines()[0] == "I am Sage, an AI advisor."
    assert run(capsys, "persona", "list") == (0, "sage  Thinks before it speaks\n", "")


def test_a_persona_that_is_not_served_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "persona", "show", "sgae")
    assert (code, err) == (2, "advisor-mcp: unknown persona 'sgae'; did you mean 'sage'? (available: sage)\n")
    assert run(capsys, "persona", "show") == (2, "", "advisor-mcp: name the persona to show (available: sage)\n")


def test_call_takes_arguments_as_json_as_a_file_and_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text('{"what": "fits"}', encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"what": "fits"}'))
    answer = (0, "It is fits.\n- **fits**: yes\n", "")
    assert run(capsys, "call", "judge", "--args", '{"what": "fits"}') == answer
    assert run(capsys, "call", "judge", "--args", f"@{tmp_path / 'a.json'}") == answer
    assert run(capsys, "call", "judge", "--args", "-") == answer


def test_call_takes_arguments_without_an_option_too_wherever_they_stand(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text('{"what": "fits"}', encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"what": "fits"}'))
    for given in ('{"what": "fits"}', f"@{tmp_path / 'a.json'}", "-"):
        assert run(capsys, "call", "judge", given) == (0, "It is fits.\n- **fits**: yes\n", "")
    as_json = run(capsys, "call", "judge", "--args", '{"what": "fits"}', "--json")
    assert run(capsys, "call", "judge", "--json", '{"what": "fits"}') == as_json
    assert run(capsys, "call", "judge", '{"what": "fits"}', "--json") == as_json


def test_call_needs_arguments_or_a_batch(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = (
        "advisor-mcp: give the arguments once, as JSON, --args JSON or --batch FILE; see 'advisor-mcp call --help'\n"
    )
    assert run(capsys, "call", "judge") == (2, "", wanted)
    assert run(capsys, "call", "judge", "{}", "--args", "{}") == (2, "", wanted)
    assert run(capsys, "call", "judge", "--args", "{}", "--batch", "-") == (2, "", wanted)


def test_a_batch_exits_with_zero_whatever_its_lines_say(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = '{"what": "bad"}\n\n{"what": "unknown"}\n'
    (tmp_path / "lines.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    code, out, err = run(capsys, "call", "judge", "--batch", str(tmp_path / "lines.jsonl"))
    assert (code, len(out.splitlines()), err) == (0, 3, "")
    assert run(capsys, "call", "judge", "--batch", "-") == (0, out, "")
    assert run(capsys, "call", "judge", "--batch", str(tmp_path)) == (
        2,
        "",
        f"advisor-mcp: cannot read '{tmp_path}': is a directory\n",
    )


def test_a_terminal_gets_styled_text_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    live = Terminal()
    monkeypatch.setattr(sys, "stdout", live)
    cli.main(["scale", "2", "1"])
    monkeypatch.setenv("NO_COLOR", "1")
    cli.main(["scale", "2", "1"])
    bold, bullet = f"{terminal.BOLD}product{terminal.RESET}", f"{terminal.DIM}-{terminal.RESET}"
    assert live.getvalue() == (f"The product is 2.0.\n{bullet} {bold}: 2\nThe product is 2.0.\n- **product**: 2\n")


def test_long_work_shows_its_progress_on_a_terminal_and_wipes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    live = Terminal()
    monkeypatch.setattr(sys, "stderr", live)
    assert cli.main(["stepper", "--steps", "2"]) == 0
    assert live.getvalue().startswith("\r[" + "#" * 15 + "-" * 15 + "]  50%  working\x1b[K")
    assert live.getvalue().endswith("\r\x1b[K")


def test_an_interrupt_ends_quietly(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("advisor_mcp.catalogue.Catalogue.call", interrupted)
    assert run(capsys, "scale", "1", "2") == (130, "", "")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        (":0", ("127.0.0.1", 0)),
        ("8000", ("127.0.0.1", 8000)),
        ("[::1]:80", ("::1", 80)),
        ("example.org:65535", ("example.org", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: tuple[str, int]) -> None:
    assert cli.address(text) == address


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:65536", "::1:80", "host:-1", "host:٣", "host:" + "9" * 5000]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--http must be HOST:PORT"):
        cli.address(text)


class Served:
    """Stands in for the server: keeps what it was asked to serve."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, list[str], dict[str, Any]]] = []
        monkeypatch.setattr("advisor_mcp.server.serve_stdio", self.stdio)
        monkeypatch.setattr("advisor_mcp.server.serve_http", self.http)

    def stdio(self, catalogue: Any) -> None:
        self.calls.append(("stdio", list(catalogue.tools), {}))

    def http(self, host: str, port: int, *, catalogue: Any, **settings: Any) -> None:
        self.calls.append((f"{host}|{port}", list(catalogue.tools), settings))


def test_serve_speaks_over_stdio_with_the_tools_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(monkeypatch)
    assert run(capsys, "serve") == (0, "", "")
    assert run(capsys, "serve", "--toolsets", "config", "--tools", "scale, judge") == (0, "", "")
    assert served.calls == [
        ("stdio", ["judge", "scale", "show", "stepper"], {}),
        ("stdio", ["judge", "scale", "show"], {}),
    ]


def test_serve_names_the_prometheus_that_calls_may_ask(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Served(monkeypatch)
    monkeypatch.setattr(access, "_prometheus", None)
    monkeypatch.delenv(access.PROMETHEUS, raising=False)
    assert run(capsys, "serve", "--prometheus", "http://metrics:9090") == (0, "", "")
    assert access.operators_prometheus() == "http://metrics:9090"


def test_serve_over_http_passes_on_what_the_operator_allows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    served = Served(monkeypatch)
    words = ["--http", "127.0.0.1:0", "--root", str(tmp_path), "--allowed-host", "a", "--allowed-host", "b"]
    assert run(capsys, "serve", "--tools", "scale", *words) == (0, "", "")
    assert served.calls == [("127.0.0.1|0", ["scale"], {"root": tmp_path, "allowed_hosts": ["a", "b"]})]


def test_serve_refuses_what_it_cannot_serve(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(monkeypatch)
    assert run(capsys, "serve", "--root", ".")[0] == 2
    assert run(capsys, "serve", "--toolsets", "sizign") == (
        2,
        "",
        "advisor-mcp: unknown toolset 'sizign'; did you mean 'sizing'? (available: config, sizing)\n",
    )
    assert served.calls == []


def test_serve_tells_of_content_that_is_not_served(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Served(monkeypatch)
    missing = str(tmp_path / "none")
    told = f"advisor-mcp: {missing} is not served: the content folder does not exist\n"
    assert run(capsys, "serve", "--content", missing) == (0, "", told)


def test_install_prints_only_the_configuration_on_stdout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CODEX_HOME", raising=False)
    code, out, err = run(capsys, "install", "codex", "--print")
    assert (code, "[mcp_servers.advisor]" in out, err.count("\n")) == (0, True, 1)
    assert not (tmp_path / ".codex").exists()
    assert run(capsys, "install", "codex")[0] == 0
    assert "[mcp_servers.advisor]" in (tmp_path / ".codex" / "config.toml").read_text(encoding="utf-8")
    assert run(capsys, "install", "cdex")[2].startswith("advisor-mcp: unknown client 'cdex'; did you mean 'codex'?")


def test_doctor_prints_a_line_per_check_and_fails_on_broken_content(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    code, out, err = run(capsys, "doctor", "--content", str(tmp_path / "none"))
    assert (code, err) == (1, "")
    assert f"fail  content: {tmp_path / 'none'} is not served: the content folder does not exist" in out.splitlines()


def test_doctor_tells_its_checks_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    code, out, err = run(capsys, "doctor", "--json", "--content", str(tmp_path / "none"))
    checks = json.loads(out)
    assert (code, err, [set(check) for check in checks]) == (1, "", [{"name", "status", "message"}] * len(checks))
    assert [check for check in checks if check["status"] == "fail"] == [
        {
            "name": "content",
            "status": "fail",
            "message": f"{tmp_path / 'none'} is not served: the content folder does not exist",
        }
    ]


def test_a_home_folder_that_is_not_known_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    said = "advisor-mcp: '~no-such-user/x' names a home folder that is not known; give the whole path\n"
    assert run(capsys, "--content", "~no-such-user/x", "list") == (2, "", said)
    assert run(capsys, "list", "--content=~no-such-user/x") == (2, "", said)
    assert run(capsys, "call", "judge", "--batch", "~no-such-user/x") == (2, "", said)


def test_doctor_works_where_the_catalogue_does_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "built_in", lambda: Path("/nowhere"))
    code, out, _ = run(capsys, "doctor")
    assert code == 1
    assert "the built-in catalogue is not served" in out


def process(*words: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    environ = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "advisor_mcp", *words]
    return subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)


def test_a_closed_pipe_ends_a_command_without_a_word(tmp_path: Path) -> None:
    folder = doubler_folder(tmp_path)
    with process("--content", str(folder), "call", "doubler", "--batch", "-") as running:
        assert running.stdin
        assert running.stdout
        assert running.stderr
        running.stdin.write(b'{"number": 4}\n')
        running.stdin.flush()
        assert json.loads(running.stdout.readline())["double"] == 8
        running.stdout.close()
        running.stdin.write(b'{"number": 5}\n' * 3)
        running.stdin.close()
        assert (running.stderr.read(), running.wait()) == (b"", 0)


def test_a_batch_answers_each_line_before_the_next_is_sent(tmp_path: Path) -> None:
    folder = doubler_folder(tmp_path)
    with process("call", "doubler", "--batch", "-", f"--content={folder}", stderr=subprocess.DEVNULL) as running:
        assert running.stdin
        assert running.stdout
        answers = []
        for line in (b'{"number": 4}\n', b"\n", b"\xff\n", '{"number": "é"}\n'.encode()):
            running.stdin.write(line)
            running.stdin.flush()
            answers.append(json.loads(running.stdout.readline()))
        running.stdin.close()
        assert running.wait() == 0
    assert answers[0]["double"] == 8
    assert [answer["error"]["kind"] for answer in answers[1:]] == ["usage"] * 3
    assert answers[3]["error"]["message"] == "doubler: number must be a whole number, not 'é'"


def test_to_calculate_neither_the_sdk_nor_another_tool_is_imported(tmp_path: Path) -> None:
    folder = doubler_folder(tmp_path)
    program = (
        "import sys; from advisor_mcp.cli import main; main(sys.argv[1:]); "
        "print(sorted(m for m in sys.modules if m.split('.')[0] in {'mcp', 'jinja2', 'yaml', 'numpy', 'sqlite_utils', "
        "'uvicorn', 'pynvml', 'anyio'} or m.startswith('advisor_mcp.tools.')))"
    )
    command = [sys.executable, "-c", program, "--content", str(folder), "doubler", "4"]
    environ = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run(command, env=environ, check=True, capture_output=True)  # the folder is indexed once
    out = subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout
    assert out.splitlines()[-1] == "['advisor_mcp.tools.doubler']"


def test_the_cause_of_an_internal_error_is_told_only_to_those_who_ask(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "tools").mkdir(parents=True)
    broken = DOUBLER.replace("    return Doubled(", "    raise RuntimeError('a secret')\n    return Doubled(")
    (folder / "tools" / "doubler.py").write_text(HEAD + broken, encoding="utf-8")
    told = []
    for environ in ({}, {cli.DEBUG: "1"}):
        command = [sys.executable, "-m", "advisor_mcp", "doubler", "4", "--content", str(folder)]
        environ = os.environ | {"PYTHONPATH": str(ROOT / "src")} | environ
        told.append(subprocess.run(command, env=environ, capture_output=True, text=True, check=False).stderr)
    assert told[0] == "advisor-mcp: doubler failed on a fault of its own; please report the arguments you gave\n"
    assert "RuntimeError: a secret" in told[1]

"""The demonstration, over a real server in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run([sys.executable, *arguments], env=environ, capture_output=True, text=True, check=False)


def test_the_demonstration_shows_a_persona_and_the_figures_to_answer_from() -> None:
    shown = run("-m", "advisor_mcp", "demo")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [line for line in shown.stdout.splitlines() if line.startswith("# ")] == [
        "# Can I serve Llama-3.1-70B at 32k context on 4 H100s, and with how many users?",
        "# Who answers: the prompt 'optima'",
        "# Optima, lead AI performance engineer",
        "# describe_model(model='llama-3.1-70b', sequence_length=32768)",
        "# estimate_serving_memory(model='llama-3.1-70b', gpu='h100-sxm', gpu_count=4, tensor_parallel=4, "
        "sequence_length=32768)",
    ]
    assert "70,553,706,496 parameters" in shown.stdout
    assert "- **kv_gib**: 2.5\n" in shown.stdout
    assert "- **fits**: yes\n" in shown.stdout


def test_what_the_server_refuses_is_told_in_its_words() -> None:
    program = "import sys; from advisor_mcp import cli, demo; demo.PERSONA = 'optimal'; sys.exit(cli.main(['demo']))"
    shown = run("-c", program)
    assert (shown.returncode, shown.stdout) == (4, "")
    assert shown.stderr.startswith("advisor-mcp: the server refused: unknown prompt 'optimal'; did you mean 'optima'?")

"""Slurm's options: the short names, the switches, and the `#SBATCH` lines of a batch script."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from advisor_mcp.linting.source import SourceFile, Span
from advisor_mcp.linting.tree import UNKNOWN
from advisor_mcp.linting.unit import Setting, Unit

SLURM_SHORT = {
    "-N": "nodes", "-n": "ntasks", "-c": "cpus_per_task", "-G": "gpus", "-t": "time", "-p": "partition", "-J": "job_name", "-o": "output",
    "-e": "error", "-A": "account", "-w": "nodelist", "-x": "exclude", "-q": "qos", "-a": "array", "-C": "constraint", "-D": "chdir",
    "-l": "label", "-u": "unbuffered", "-K": "kill_on_bad_exit", "-d": "dependency", "-W": "wait", "-m": "distribution",
}  # fmt: skip
SLURM_SWITCHES = {
    "-l", "--label", "-u", "--unbuffered", "--exclusive", "--pty", "-K", "--kill-on-bad-exit", "--overlap", "-v", "--verbose", "--no-kill",
    "--oversubscribe", "--container-remap-root", "--no-container-mount-home", "--container-writable", "--container-mount-home", "--exact",
    "--requeue", "--no-requeue", "--wait-all-nodes", "-Q", "--quiet", "--reboot", "--spread-job", "--contiguous",
    "--no-container-entrypoint", "--container-readonly", "--no-container-remap-root", "-s", "-O", "--overcommit", "-k",
}  # fmt: skip


def sbatch_unit(source: SourceFile, comments: Iterable[Span]) -> Unit | None:
    """The unit of a batch script's `#SBATCH` lines."""
    settings: dict[str, Setting] = {}
    for comment in comments:
        match = re.match(r"#SBATCH\s+", comment.text)
        if not match:
            continue
        for option in re.finditer(r"(--?[A-Za-z][\w-]*)(?:[=\s]\s*([^\s#]+))?", comment.text[match.end() :]):
            start = comment.start + match.end() + option.start()
            name = SLURM_SHORT.get(option[1], option[1].lstrip("-").replace("-", "_"))
            key = Span(source, start, start + len(option[1]))
            value: Any = option[2] if option[2] is not None else True
            base = comment.start + match.end()
            place = Span(source, base + option.start(2), base + option.end(2)) if option[2] is not None else key
            if isinstance(value, str) and re.search(r"[<{$%]", value) and name not in ("output", "error"):
                value = UNKNOWN
            settings[name] = Setting(name, value, key, place, option[1], "shell")
            break
    if not settings:
        return None
    return Unit("slurm", source, next(iter(settings.values())).key, "sbatch", None, settings)

"""Log files are read by their byte order mark and never wait."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from advisor_mcp.measuring.log_files import LogFile, read_log


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_log_is_read_by_its_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    text = "Schritt für Schritt\nstep: 20 tps: 7,123\n"
    mark = "\ufeff" if encoding.endswith("e") else ""  # the encodings without a byte order write none of their own
    log = tmp_path / "train.log"
    log.write_bytes((mark + text).encode(encoding))
    size = log.stat().st_size
    assert read_log(log) == LogFile(text, size, size)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_of_a_long_log_the_last_whole_lines_are_read(tmp_path: Path, encoding: str) -> None:
    lines = [f"step: {step} tps: {step}" for step in range(100)]
    log = tmp_path / "train.log"
    log.write_bytes("\n".join(lines).encode(encoding))
    found = read_log(log, most=200)
    assert found.text.splitlines() == lines[-len(found.text.splitlines()) :]
    assert len(found.text.encode(encoding)) > 100
    assert (found.size, found.read) == (log.stat().st_size, found.read)
    assert 0 < found.read <= 200


def test_a_pipe_is_not_opened_and_a_device_is_not_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            read_log(path)

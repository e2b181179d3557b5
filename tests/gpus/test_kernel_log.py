"""Xids in the kernel log: which are told, and what of a line is kept; and what NVIDIA says to do about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from advisor_mcp.gpus import xids
from advisor_mcp.gpus.devices import XidReading
from advisor_mcp.gpus.kernel_log import NO_BUS, UNREADABLE, Xids, bus_of, read_xids

LOG = """\
6,1,1000000,-;NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.95.05
3,2,60000000,-;NVRM: Xid (PCI:0000:1b:00): 31, pid=77, name=secret-program, Ch 00000008
 SUBSYSTEM=pci
3,3,90000000,-;NVRM: Xid (PCI:0000:1b:00): 31, pid='<unknown>', name=<unknown>
4,4,95000000,-;usb 1-1: a line that says NVRM: Xid (PCI:0000:1b:00): 79, of another driver
3,5,100000000,c;NVRM: Xid (PCI:0000:c3:00): 79, GPU has fallen off the bus.
3,6,110000000,-;NVRM: Xid (0000:c3:00): 48, pid=12
3,7,111000000,-;NVRM: Xid (PCI:zz:..): 13, pid=12
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "kmsg"
    path.write_text(LOG, encoding="utf-8")
    return path


def test_xids_are_counted_by_gpu_and_code_with_the_age_of_the_last(log: Path) -> None:
    found = read_xids(log, lambda: 120.0)
    assert found == Xids(
        {
            "0:1b:0": (XidReading(code=31, count=2, age_s=30.0),),
            "0:c3:0": (XidReading(code=48, count=1, age_s=10.0), XidReading(code=79, count=1, age_s=20.0)),
        }
    )


def test_nothing_of_a_line_but_code_and_time_is_kept(log: Path) -> None:
    assert "secret-program" not in repr(read_xids(log, lambda: 120.0))


def test_a_gpu_gets_the_xids_of_its_own_bus(log: Path) -> None:
    values: dict[str, Any] = {"pci_bus_id": "00000000:1B:00.0"}
    missing: dict[str, str] = {}
    read_xids(log, lambda: 120.0).put(values, missing)
    assert (values["xids"], missing) == ((XidReading(code=31, count=2, age_s=30.0),), {})


def test_a_gpu_without_xids_has_none_and_not_a_missing_value(log: Path) -> None:
    values: dict[str, Any] = {"pci_bus_id": "00000000:99:00.0"}
    read_xids(log, lambda: 120.0).put(values, {})
    assert values["xids"] == ()


@pytest.mark.parametrize(
    ("found", "values", "reason"),
    [(Xids(), {"pci_bus_id": "00000000:1B:00.0"}, UNREADABLE), (Xids({}), {}, NO_BUS)],
)
def test_xids_that_cannot_be_told_are_missing_with_the_reason(found: Xids, values: dict[str, Any], reason: str) -> None:
    missing: dict[str, str] = {}
    found.put(values, missing)
    assert missing == {"xids": reason}


def test_a_log_that_may_not_be_read_is_no_error(tmp_path: Path) -> None:
    assert read_xids(tmp_path / "gone") == Xids()


@pytest.mark.parametrize("written", ["00000000:1B:00.0", "0000:1b:00", "0:1b:0"])
def test_a_bus_is_the_same_however_it_is_written(written: str) -> None:
    assert bus_of(written) == "0:1b:0"


def test_every_entry_of_the_catalogue_has_an_action_in_words() -> None:
    found = [xids.named(int(code)) for code in xids.catalogue()]
    assert len(found) > 90
    assert all(entry.meaning and entry.action for entry in found)


def test_the_catalogue_tells_a_fault_of_the_program_from_one_of_the_gpu() -> None:
    severities = {code: xids.named(code).severity for code in (13, 63, 79)}
    assert severities == {13: "warning", 63: "info", 79: "error"}


def test_a_code_that_is_not_in_the_table_is_for_support_to_name() -> None:
    assert xids.named(9_999) == xids.Xid(9_999, "not in the table here", "CONTACT_SUPPORT")

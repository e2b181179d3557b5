"""What is reported as wrong, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from advisor_mcp.gpus import DeviceReading, ProcessReading
from advisor_mcp.gpus.faults import Fault, find_faults

GIB = 2**30
HEALTHY: dict[str, Any] = {
    "utilization_percent": 98,
    "clock_events": 0x4,
    "temperature_c": 62,
    "power_mw": 690_000,
    "pcie_gen": 5,
    "pcie_gen_max": 5,
    "pcie_width": 16,
    "pcie_width_max": 16,
    "ecc_volatile_uncorrected": 0,
    "ecc_volatile_corrected": 12,
    "ecc_aggregate_uncorrected": 0,
    "ecc_aggregate_corrected": 40,
    "remapped_rows_uncorrected": 0,
    "row_remap_pending": False,
    "row_remap_failed": False,
    "recovery_action": 0,
    "mig_enabled": False,
    "memory_used_bytes": 70 * GIB,
    "memory_reserved_bytes": GIB // 2,
    "processes": (ProcessReading(pid=1, memory_bytes=70 * GIB),),
}


def sentences(*changes: dict[str, Any]) -> list[str]:
    readings = [DeviceReading(index=index, **(HEALTHY | change)) for index, change in enumerate(changes)]
    return [fault.sentence for fault in find_faults(readings)]


def test_a_busy_gpu_at_its_power_cap_is_healthy() -> None:
    assert sentences({}) == []


def test_a_gpu_that_reports_nothing_is_not_accused() -> None:
    assert find_faults([DeviceReading(index=0)]) == []


@pytest.mark.parametrize("events", [0, 0x1, 0x2, 0x4, 0x10, 0x100, 0x200, 0x400])
def test_idle_caps_and_settings_are_no_faults(events: int) -> None:
    assert sentences({"clock_events": events}) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"clock_events": 0x48, "temperature_c": 89},
            "GPU 0: hardware thermal slowdown at 89 °C at least halves the clocks; check cooling and airflow",
        ),
        (
            {"clock_events": 0x60, "temperature_c": None},
            "GPU 0: hardware thermal slowdown at least halves the clocks; check cooling and airflow",
        ),
        (
            {"clock_events": 0x88, "power_mw": 311_400},
            "GPU 0: the power brake at 311 W at least halves the clocks; check the power supply",
        ),
        (
            {"clock_events": 0x8},
            "GPU 0: hardware slowdown without a named cause at 62 °C; if it stays, check power and cooling",
        ),
        (
            {"clock_events": 0x24, "temperature_c": 85},
            "GPU 0: the driver lowers the clocks for heat at 85 °C; check cooling and airflow",
        ),
        (
            {"ecc_volatile_uncorrected": 2, "ecc_aggregate_uncorrected": 9},
            "GPU 0: 2 uncorrected ECC errors since the driver was loaded; results may be wrong, drain and reset it",
        ),
        (
            {"ecc_aggregate_uncorrected": 12_345},
            "GPU 0: 12,345 uncorrected ECC errors over its life, none since the driver was loaded; watch the count",
        ),
        (
            {"row_remap_failed": True, "remapped_rows_uncorrected": 8},
            "GPU 0: a memory row could not be remapped, after 8 remapped for uncorrected errors; replace the board",
        ),
        (
            {"row_remap_pending": True, "remapped_rows_uncorrected": 1},
            "GPU 0: a memory row waits to be remapped, after 1 remapped for uncorrected errors; "
            "reset the GPU when it is free",
        ),
        (
            {"pcie_width": 8},
            "GPU 0: PCIe runs on 8 of 16 lanes; reseat it or check slot and riser (some boards wire fewer)",
        ),
        (
            {"pcie_gen": 3},
            "GPU 0: PCIe runs at generation 3 of 5 while utilisation is 98 %; check slot, riser and BIOS",
        ),
        (
            {"recovery_action": 1},
            "GPU 0: the driver asks to reset the GPU (recovery action 1)",
        ),
        (
            {"failure": "the GPU must be reset before it answers"},
            "GPU 0: no reading, the GPU must be reset before it answers; see the kernel log for its Xid",
        ),
        (
            {"utilization_percent": 0},
            "GPU 0: processes hold 70 GiB while utilisation is 0 %; end them if nobody needs them",
        ),
        (
            {"utilization_percent": 0, "processes": (), "memory_used_bytes": 12 * GIB},
            "GPU 0: 12 GiB in use, utilisation 0 % and no process in sight; look outside this container",
        ),
        (
            {"mig_enabled": True, "mig_instances": ()},
            "GPU 0: MIG mode is on with 0 instances, so CUDA finds no device here; create instances or turn it off",
        ),
    ],
)
def test_each_fault_is_one_sentence_with_its_number(change: dict[str, Any], sentence: str) -> None:
    assert sentences(change) == [sentence]


@pytest.mark.parametrize("utilization", [0, 49, None])
def test_an_older_pcie_generation_is_no_fault_while_the_gpu_is_not_busy(utilization: int | None) -> None:
    assert sentences({"pcie_gen": 1, "utilization_percent": utilization, "processes": None}) == []


def test_instances_that_could_not_be_listed_are_not_said_to_be_none() -> None:
    assert sentences({"mig_enabled": True, "mig_instances": None}) == []


def test_memory_of_an_idle_desktop_is_not_a_leftover() -> None:
    desktop = (ProcessReading(pid=9, kind="graphics", memory_bytes=2 * GIB),)
    assert sentences({"utilization_percent": 0, "processes": desktop}) == []


@pytest.mark.parametrize(
    "change",
    [
        {"memory_used_bytes": GIB - 1},
        {"memory_used_bytes": 2 * GIB, "memory_reserved_bytes": None},
        {"memory_used_bytes": 2 * GIB, "processes": None},
    ],
    ids=["a little", "counted with the reserved share", "processes unknown"],
)
def test_memory_without_a_process_is_only_reported_when_it_is_certain(change: dict[str, Any]) -> None:
    assert sentences({"utilization_percent": 0, "processes": ()} | change) == []


def test_gpus_with_the_same_fault_share_a_sentence_with_the_span_of_their_figures() -> None:
    hot = [{"clock_events": 0x48, "temperature_c": degrees} for degrees in (88, 91, 90)]
    text = "hardware thermal slowdown at 88 to 91 °C at least halves the clocks; check cooling and airflow"
    assert sentences(hot[0], {}, hot[1], hot[2]) == [f"GPUs 0, 2-3: {text}"]


def test_the_gravest_kind_comes_first_whatever_the_order_of_the_gpus() -> None:
    readings = [
        DeviceReading(index=0, pcie_width=8, pcie_width_max=16),
        DeviceReading(index=1, ecc_volatile_uncorrected=1),
        DeviceReading(index=2, failure="the GPU must be reset before it answers"),
    ]
    assert [fault.indices for fault in find_faults(readings)] == [(2,), (1,), (0,)]


def test_a_fault_names_its_gpus() -> None:
    text = "GPU 4: the driver asks to reboot the node (recovery action 2)"
    assert find_faults([DeviceReading(index=4, recovery_action=2)]) == [Fault((4,), text)]

"""What is found wrong with GPUs, and what is not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from advisor_mcp.findings import SECTIONS, Kind, finding_rows
from advisor_mcp.gpus import DeviceReading, ProcessReading
from advisor_mcp.gpus.devices import ActivityReading, LinkReading, XidReading
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, gravest_first

GIB = 2**30
UP = tuple(LinkReading(link=link, active=True, errors={"replay": 4, "crc": 90}) for link in range(18))
HEALTHY: dict[str, Any] = {
    "name": "NVIDIA H100 80GB HBM3",
    "utilization_percent": 98,
    "clock_events": 0,
    "sm_clock_mhz": 1755,
    "temperature_c": 62,
    "power_mw": 690_000,
    "power_limit_mw": 700_000,
    "power_limit_default_mw": 700_000,
    "sample_s": 0.2,
    "limited_percent": {"power": 0.0, "thermal": 0.0, "sync_boost": 0.0, "board_limit": 0.0, "reliability": 0.0},
    "activity": ActivityReading(sm_percent=88.0, sm_occupancy_percent=30.0, tensor_percent=50.0, dram_percent=40.0),
    "pcie_gen": 5,
    "pcie_gen_max": 5,
    "pcie_width": 16,
    "pcie_width_max": 16,
    "pcie_replay_count": 12,
    "pcie_replays": 0,
    "links": UP,
    "ecc_enabled": True,
    "ecc_volatile_uncorrected": 0,
    "ecc_volatile_corrected": 12,
    "ecc_aggregate_uncorrected": 0,
    "ecc_aggregate_corrected": 40,
    "remapped_rows_uncorrected": 0,
    "row_remap_pending": False,
    "row_remap_failed": False,
    "row_remap_histogram": (640, 0, 0, 0, 0),
    "recovery_action": 0,
    "xids": (),
    "mig_enabled": False,
    "persistence_enabled": True,
    "memory_used_bytes": 70 * GIB,
    "memory_reserved_bytes": GIB // 2,
    "processes": (ProcessReading(pid=1, memory_bytes=70 * GIB),),
}
IDLE = {"utilization_percent": 0, "processes": (), "memory_used_bytes": 0, "clock_events": 1, "pcie_gen": 1}


def machine(*changes: dict[str, Any]) -> Machine:
    return Machine(tuple(DeviceReading(index=i, **(HEALTHY | change)) for i, change in enumerate(changes)))


def told(*changes: dict[str, Any]) -> list[tuple[str, str, str]]:
    found = GPUS.find(machine(*changes))
    return [(finding.kind.name, finding.severity, finding.seen.message) for finding in found]


@pytest.mark.parametrize("kind", GPUS.kinds().values(), ids=lambda kind: kind.name)
def test_every_page_has_its_sections(kind: Kind[Machine]) -> None:
    optional = {"Could also be"} if kind.name == "recovery-action" else set()
    assert set(kind.sections) | optional == set(SECTIONS)
    assert kind.page.startswith("Finds ")
    assert all(kind.sections[section] for section in kind.sections)


def test_one_file_holds_one_finding() -> None:
    modules = [kind.check.__module__.rpartition(".")[2] for kind in GPUS.kinds().values()]
    assert [name.replace("-", "_") for name in GPUS.kinds()] == modules


@pytest.mark.parametrize("change", [{}, IDLE], ids=["busy", "idle"])
def test_a_healthy_gpu_has_no_finding(change: dict[str, Any]) -> None:
    assert told(change) == []
    assert told(*[change] * 8) == []


def test_a_gpu_that_reports_nothing_is_not_accused() -> None:
    assert GPUS.find(Machine((DeviceReading(index=0),))) == []


def test_a_power_limit_is_told_in_the_words_of_the_gpu_s_vendor() -> None:
    lowered = {"clock_events": 0x4, "power_limit_mw": 600_000, "power_limit_default_mw": 700_000}
    rows = finding_rows(GPUS.find(machine(lowered, lowered | {"vendor": "amd"})), full=False)
    assert [(row.where, row.change) for row in rows] == [
        (
            "GPU 0",
            "Raise the limit to the board's default (nvidia-smi -pl, as root), unless it was lowered on purpose.",
        ),
        (
            "GPU 1",
            "Raise the limit to the board's default (amdsmi_set_power_cap, as root), unless it was lowered on purpose.",
        ),
    ]
    assert ["nvml" in (row.threshold or "") for row in rows] == [True, False]
    assert rows[1].threshold == (
        "A warning only where the cap in force is below the default cap, both of amdsmi_get_power_cap_info."
    )


def test_a_busy_gpu_at_its_own_power_limit_gets_a_note() -> None:
    message = "GPU 0: clocks held down by the power limit of 700 W, as expected at full load"
    assert told({"clock_events": 0x4}) == [("power-cap", "info", message)]
    assert told({"limited_percent": {"power": 12.5}}) == [("power-cap", "info", message)]
    assert told(IDLE | {"clock_events": 0x5}) == []


@pytest.mark.parametrize(
    ("change", "name", "severity", "message"),
    [
        (
            {"clock_events": 0x48, "temperature_c": 89},
            "hw-thermal-slowdown",
            "error",
            "hardware thermal slowdown at 89 °C at least halves the clocks",
        ),
        (
            {"clock_events": 0x60, "temperature_c": None},
            "hw-thermal-slowdown",
            "error",
            "hardware thermal slowdown at least halves the clocks",
        ),
        (
            {"clock_events": 0x88, "power_mw": 311_400},
            "hw-power-brake",
            "error",
            "the power brake at 311 W at least halves the clocks",
        ),
        ({"clock_events": 0x8}, "hw-slowdown", "error", "hardware slowdown without a named cause at 62 °C"),
        (
            {"clock_events": 0x20, "temperature_c": 85},
            "sw-thermal-slowdown",
            "warning",
            "the driver lowers the clocks for heat at 85 °C",
        ),
        (
            {"limited_percent": {"thermal": 3.5}},
            "sw-thermal-slowdown",
            "warning",
            "the driver lowers the clocks for heat at 62 °C",
        ),
        (
            {"clock_events": 0x4, "power_limit_mw": 500_000},
            "power-cap",
            "warning",
            "clocks held down by a power limit of 500 W, which is below the board's default",
        ),
        ({"clock_events": 0x200}, "clock-limit", "warning", "clocks held at 1755 MHz by the board's limit"),
        ({"clock_events": 0x400}, "clock-limit", "warning", "clocks held at 1755 MHz by the reliability limit"),
        (
            {"limited_percent": {"board_limit": 1.0}},
            "clock-limit",
            "warning",
            "clocks held at 1755 MHz by the board's limit",
        ),
        (
            {"clock_events": 0x2},
            "clock-limit",
            "info",
            "clocks held at 1755 MHz by application clocks that were set",
        ),
        (
            {"ecc_volatile_uncorrected": 2, "ecc_aggregate_uncorrected": 9},
            "uncorrected-ecc",
            "error",
            "2 uncorrected ECC errors since the driver was loaded",
        ),
        (
            {"ecc_aggregate_uncorrected": 12_345},
            "uncorrected-ecc",
            "warning",
            "12,345 uncorrected ECC errors over its life, none since the driver was loaded",
        ),
        (
            {"row_remap_failed": True, "remapped_rows_uncorrected": 8},
            "row-remap",
            "error",
            "a memory row could not be remapped, after 8 remapped for uncorrected errors",
        ),
        (
            {"row_remap_pending": True, "remapped_rows_uncorrected": 1},
            "row-remap",
            "warning",
            "a memory row waits to be remapped, after 1 remapped for uncorrected errors",
        ),
        (
            {"row_remap_histogram": (630, 4, 3, 1, 2)},
            "row-remap",
            "warning",
            "2 memory banks have no spare rows left",
        ),
        (
            {"retired_pages_pending": True, "retired_pages_uncorrected": 3},
            "retired-pages",
            "warning",
            "memory pages wait to be retired, 3 were for uncorrected errors",
        ),
        ({"ecc_enabled": False}, "ecc-off", "info", "ECC is off"),
        ({"pcie_width": 8}, "link-below-capability", "warning", "PCIe runs on 8 of 16 lanes under load"),
        ({"pcie_gen": 1}, "link-below-capability", "warning", "PCIe runs at generation 1 of 5 under load"),
        (
            {"recovery_action": 1},
            "recovery-action",
            "error",
            "the driver asks to reset the GPU (recovery action 1)",
        ),
        (
            {"failure": "the GPU must be reset before it answers"},
            "gpu-not-answering",
            "error",
            "no reading, the GPU must be reset before it answers",
        ),
        (
            {"activity": ActivityReading(sm_percent=12.0)},
            "busy-but-idle-sms",
            "warning",
            "utilisation looks full, but the SMs were busy 12 % of the time",
        ),
        (
            {"utilization_percent": 0},
            "memory-held-idle",
            "warning",
            "processes hold 70 GiB while utilisation is 0 %",
        ),
        ({"processes": ()}, "unseen-processes", "info", "utilisation is 98 % and no process is in sight"),
        (
            {"utilization_percent": 0, "processes": (), "memory_used_bytes": 12 * GIB},
            "unseen-processes",
            "info",
            "12 GiB in use, utilisation 0 % and no process in sight",
        ),
        (
            {"mig_enabled": True, "mig_instances": ()},
            "mig-without-instances",
            "warning",
            "MIG mode is on with 0 instances, so CUDA finds no device here",
        ),
        ({"persistence_enabled": False}, "persistence-off", "info", "persistence mode is off"),
        (
            {"xids": (XidReading(code=79, count=2, age_s=90.0),)},
            "xid",
            "error",
            "Xid 79 (GPU has fallen off the bus), 2 in the kernel log",
        ),
        (
            {"xids": (XidReading(code=31),)},
            "xid",
            "warning",
            "Xid 31 (GPU memory page fault), 1 in the kernel log",
        ),
        (
            {"xids": (XidReading(code=999),)},
            "xid",
            "error",
            "Xid 999 (not in the table here), 1 in the kernel log",
        ),
        ({"links": (*UP[:17], LinkReading(link=17, active=False))}, "nvlink-down", "warning", "17 of 18 links are up"),
    ],
)
def test_each_finding_is_one_sentence_with_its_number(
    change: dict[str, Any], name: str, severity: str, message: str
) -> None:
    assert told(change) == [(name, severity, f"GPU 0: {message}")]


def test_a_link_that_the_siblings_have_up_is_an_error() -> None:
    down = {"links": (*UP[:10], *(LinkReading(link=link, active=False) for link in range(10, 18)))}
    message = "GPU 2: 10 of 18 NVLink links that its siblings have are up"
    assert told({}, {}, down) == [("nvlink-down", "error", message)]


def test_a_board_none_of_whose_links_is_up_is_not_wired() -> None:
    bare = {"links": tuple(LinkReading(link=link, active=False) for link in range(12))}
    assert told(bare, bare) == []


@pytest.mark.parametrize(
    ("new", "severity", "message"),
    [
        ({"replay": 2}, "error", "10 NVLink errors a second (replay)"),
        ({"crc": 3}, "warning", "15 NVLink errors a second (crc)"),
        ({"crc": 20}, "error", "100 NVLink errors a second (crc)"),
    ],
)
def test_link_errors_are_told_as_a_rate(new: dict[str, int], severity: str, message: str) -> None:
    links = (*UP[:17], LinkReading(link=17, active=True, errors={}, new_errors=new))
    assert told({"links": links}) == [("nvlink-errors", severity, f"GPU 0: {message}")]


def test_old_link_errors_are_no_finding() -> None:
    links = tuple(LinkReading(link=0, active=True, errors={"replay": 1e6}, new_errors={"replay": 0}) for _ in (0,))
    assert told({"links": links}) == []


def test_replays_are_held_against_the_links_error_rate() -> None:
    # generation 5 x16: 1e-12 x 32e9 bit/s x 16 lanes x 60 s = 30.72 a minute
    assert told({"pcie_replays": 3, "sample_s": 6.0}) == []
    message = "GPU 0: 40 PCIe replays a minute, more than the link's error rate allows"
    assert told({"pcie_replays": 4, "sample_s": 6.0}) == [("pcie-replays", "warning", message)]
    # generation 1 x1 allows 0.15 a minute
    assert math.isclose(1e-12 * 2.5e9 * 60, 0.15)
    slow = {"pcie_replays": 2, "sample_s": 60.0, "pcie_gen": 1, "pcie_gen_max": 1, "pcie_width": 1, "pcie_width_max": 1}
    assert [name for name, _, _ in told(slow)] == ["pcie-replays"]


def test_one_replay_can_be_chance() -> None:
    assert told({"pcie_replays": 1, "sample_s": 0.2}) == []


@pytest.mark.parametrize("share", [50.0, 80.0, None])
def test_sms_that_are_half_busy_or_not_counted_are_not_said_to_be_idle(share: float | None) -> None:
    assert told({"activity": ActivityReading(sm_percent=share)}) == []


def test_idle_sms_of_a_gpu_that_does_not_look_full_are_no_finding() -> None:
    assert told({"utilization_percent": 89, "activity": ActivityReading(sm_percent=5.0)}) == []


def test_a_slow_gpu_among_its_busy_siblings_is_a_straggler() -> None:
    clocks = (1755, 1740, 1770, 1755, 1740, 1400, 1725, 1755)
    found = GPUS.find(machine(*({"sm_clock_mhz": clock} for clock in clocks)))
    # median 1747.5, distances 7.5 7.5 22.5 7.5 7.5 347.5 22.5 7.5 with median 7.5; (1747.5 - 1400) / 1747.5 = 19.9 %
    assert [(f.kind.name, f.seen.message, f.seen.measured) for f in found] == [
        ("unlike-siblings", "GPU 5: the SM clock is 19.9 % below the median of the 8 busy GPUs of its kind", 19.9)
    ]
    assert found[0].seen.rows == ("GPU 5: 1400 MHz of 1747.5, 690 W, 62 °C",)


@pytest.mark.parametrize(
    "clocks",
    [(1755, 1740, 1770, 1690), (1755, 1400, 1755), (1755, 1600, 1400, 1250)],
    ids=["less than 5 %", "three GPUs", "all differ"],
)
def test_clocks_that_scatter_are_no_straggler(clocks: tuple[int, ...]) -> None:
    assert told(*({"sm_clock_mhz": clock} for clock in clocks)) == []


def test_an_idle_sibling_is_no_straggler() -> None:
    assert told({}, {}, {}, {}, IDLE | {"sm_clock_mhz": 345}) == []


@pytest.mark.parametrize("change", [{"pcie_gen": 1}, {"pcie_width": 4}])
@pytest.mark.parametrize("utilization", [0, 49, None])
def test_a_lower_link_is_no_finding_while_the_gpu_is_not_busy(change: dict[str, int], utilization: int | None) -> None:
    assert told(change | {"utilization_percent": utilization, "processes": None}) == []


def test_instances_that_could_not_be_listed_are_not_said_to_be_none() -> None:
    assert told({"mig_enabled": True, "mig_instances": None}) == []


def test_memory_of_an_idle_desktop_is_not_a_leftover() -> None:
    desktop = (ProcessReading(pid=9, kind="graphics", memory_bytes=2 * GIB),)
    assert told({"utilization_percent": 0, "processes": desktop}) == []


def test_a_desktop_card_without_ecc_is_not_told_to_persist() -> None:
    assert told({"persistence_enabled": False, "ecc_enabled": None}) == []


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
    assert told({"utilization_percent": 0, "processes": ()} | change) == []


def test_gpus_with_the_same_finding_share_a_sentence_with_the_span_of_their_figures() -> None:
    hot = [{"clock_events": 0x48, "temperature_c": degrees} for degrees in (88, 91, 90)]
    [found] = GPUS.find(machine(hot[0], {}, hot[1], hot[2]))
    assert found.seen == GpuObservation(
        message="GPUs 0, 2-3: hardware thermal slowdown at 88 to 91 °C at least halves the clocks",
        measured=91,
        unit="°C",
        where="GPUs 0, 2-3",
        indices=(0, 2, 3),
    )


def test_the_gravest_comes_first_whatever_the_order_of_the_gpus() -> None:
    found = GPUS.find(machine({"clock_events": 0x4}, {"pcie_width": 8}, {"ecc_volatile_uncorrected": 1}))
    assert [f.severity for f in found] == ["error", "warning", "info"]
    assert gravest_first(found) == [2, 1]


def test_an_xid_says_what_nvidia_says_to_do() -> None:
    [found] = GPUS.find(machine({"xids": (XidReading(code=79, count=2, age_s=90.0),)}))
    assert found.seen.change == "RESTART_BM: drain the node and restart the machine"
    assert found.seen.rows == ("GPU 0: 2, the last 2 minutes ago",)

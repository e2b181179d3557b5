"""What each finding sees in a fleet, and that it is silent on a healthy one."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gpus.fleet.fleets import EVERYTHING, fleet, gpu, track

from advisor_mcp.findings import SECTIONS, Observation
from advisor_mcp.gpus.fleet.checks import NEEDS, not_checked
from advisor_mcp.gpus.fleet.evidence import FLEET, Event, Exporter, Fleet


def seen(name: str, evidence: Fleet) -> list[Observation]:
    return list(FLEET.kinds()[name].check(evidence))


def names(evidence: Fleet) -> list[str]:
    return [finding.kind.name for finding in FLEET.find(evidence)]


def eight(**other: Any) -> list[Any]:
    """Eight busy GPUs of one job, the last of them different."""
    return [*(track(index, 0.9) for index in range(7)), track(7, **{"sm": 0.9, **other})]


def test_a_healthy_fleet_has_no_finding() -> None:
    assert names(fleet(*eight(), *(track(index, 0.85, "job 2", host="n1") for index in range(8)))) == []


def test_every_page_has_every_section_and_says_what_it_needs() -> None:
    kinds = FLEET.kinds()
    assert kinds.keys() == NEEDS.keys()
    assert {name: tuple(kind.sections) for name, kind in kinds.items()} == dict.fromkeys(kinds, SECTIONS)
    assert [
        name for name, kind in kinds.items() if not (kind.items("Could also be") and kind.items("References"))
    ] == []


def test_gpus_that_stand_idle_in_a_job_are_counted_in_gpu_hours() -> None:
    (found,) = seen("gpus-idle-in-job", fleet(*eight(), track(8, 0.0), track(9, 0.0, "job 2")))
    assert found == Observation(
        message="2 GPUs in 2 jobs stood idle throughout: 2.0 GPU-hours of 10.0",
        measured=2.0,
        unit="GPU-hours",
        where="job 2: 1 GPU, 1.0 GPU-hours",
        saves_at_most_percent=20.0,
        rows=("job 1: 1 of 9 GPUs, 1.0 GPU-hours", "job 2: 1 of 1 GPUs, 1.0 GPU-hours"),
    )


def test_a_job_that_loads_for_ten_minutes_is_not_idle() -> None:
    starting = track(0, 0.0, steps=range(9))
    assert seen("gpus-idle-in-job", fleet(starting, *eight()[1:])) == []


def test_one_small_kernel_is_enough_not_to_be_idle() -> None:
    assert seen("gpus-idle-in-job", fleet(track(0, 0.005, util=1.0))) == []


def test_a_gpu_without_a_job_is_free_and_not_wasted() -> None:
    evidence = fleet(*eight(), track(8, 0.0, None, memory_used=500))
    assert names(evidence) == []
    assert evidence.uses[None].idle_hours == 1


def test_without_any_job_label_all_idle_gpus_are_told_together() -> None:
    (found,) = seen("gpus-idle-in-job", fleet(track(0, 0.0, None), track(1, 0.9, None)))
    assert (found.message, found.where) == ("1 GPU stood idle throughout: 1.0 GPU-hours of 2.0", None)


def test_memory_that_outlived_its_job_is_found() -> None:
    left = [track(8, 0.0, None, memory_used=20_480), track(9, 0.0, None, memory_used=500)]
    (found,) = seen("memory-held-without-job", fleet(*eight(), *left))
    assert (found.message, found.rows) == (
        "1 idle GPU without a job holds 20 GiB of memory",
        ("n0 GPU 8: 20.0 GiB",),
    )


def test_half_idle_jobs_leave_out_the_gpus_that_stood_idle_throughout() -> None:
    evidence = fleet(track(0, 0.2), track(1, 0.2), track(2, 0.0))
    (found,) = seen("gpus-half-idle", evidence)
    # 2 GPU-hours at 20 % would fit into a quarter of them at 80 %
    assert (found.measured, found.saves_at_most_percent) == (pytest.approx(1.5), pytest.approx(50))
    assert found.message == "1 job used the GPUs held for less than half; job 1 at 20 % activity"


def test_a_kernel_that_always_runs_on_few_multiprocessors_is_called_so() -> None:
    evidence = fleet(track(0, 0.2, util=1.0))
    assert names(evidence) == ["utilisation-without-sm-activity"]
    (found,) = seen("utilisation-without-sm-activity", evidence)
    assert found.message == "job 1: utilisation 100 % with SM activity 20 %"
    assert (found.measured, found.saves_at_most_percent) == (pytest.approx(20), pytest.approx(75))


@pytest.mark.parametrize(("dram", "found"), [(0.3, ["tensor-cores-unused"]), (0.7, [])])
def test_idle_tensor_cores_count_only_where_memory_is_not_the_limit(dram: float, found: list[str]) -> None:
    assert names(fleet(track(0, 0.95, tensor_active=0.02, dram_active=dram))) == found


def test_a_slower_clock_than_its_siblings_is_a_straggler() -> None:
    (found,) = seen("gpu-apart-from-its-job", fleet(*eight(clock=1404.0)))
    # 351 of 1755 MHz is 20 %, and all eight GPUs wait for it
    assert found == Observation(
        message="n0 GPU 7: clock 1404 MHz where its 7 siblings have 1755 MHz (job 1)",
        measured=pytest.approx(20),
        unit="% from the median",
        where="job 1: n0 GPU 7",
        saves_at_most_percent=pytest.approx(20),
        rows=("n0 GPU 7: clock 1404 MHz where its 7 siblings have 1755 MHz (job 1)",),
    )


@pytest.mark.parametrize("clock", [1700.0, 1980.0])
def test_a_clock_that_is_close_or_higher_is_no_straggler(clock: float) -> None:
    assert seen("gpu-apart-from-its-job", fleet(*eight(clock=clock))) == []


def test_an_activity_apart_from_its_siblings_is_told() -> None:
    (found,) = seen("gpu-apart-from-its-job", fleet(*eight(sm=0.6)))
    assert found.message == "n0 GPU 7: SM activity 60 % where its 7 siblings have 90 % (job 1)"


def test_siblings_that_differ_by_themselves_hide_nobody_and_accuse_nobody() -> None:
    spread = [track(index, 0.5 + 0.05 * index) for index in range(8)]
    assert seen("gpu-apart-from-its-job", fleet(*spread)) == []


def test_three_gpus_are_too_few_to_call_one_apart() -> None:
    assert seen("gpu-apart-from-its-job", fleet(track(0, 0.9), track(1, 0.9), track(2, 0.9, clock=900.0))) == []


def test_a_hardware_slowdown_is_an_error_with_its_share_of_the_time() -> None:
    half = dict.fromkeys(range(30), 0x48) | dict.fromkeys(range(30, 60), 0)
    evidence = fleet(*eight(clock_events=half))
    (found,) = seen("hardware-slowdown", evidence)
    assert found.message == "1 GPU slowed down by hardware, n0 GPU 7 for 50 % of the time"
    assert (found.measured, found.saves_at_most_percent) == (50, pytest.approx(50 / 8))
    assert [f.severity for f in FLEET.find(evidence)] == ["error"]


def test_a_power_cap_is_normal_at_full_load() -> None:
    assert names(fleet(*eight(clock_events=dict.fromkeys(range(60), 0x4)))) == []


def test_heat_is_read_from_bits_and_from_time_counters_alike() -> None:
    bits = fleet(*eight(clock_events=dict.fromkeys(range(15), 0x20)), highest={"temperature": {gpu(7): 91.0}})
    times = fleet(*eight(), growth={"thermal_time": {gpu(7): 900.0}})
    (by_bits,), (by_time,) = seen("thermal-throttling", bits), seen("thermal-throttling", times)
    assert by_bits.message == "1 GPU throttled for heat, n0 GPU 7 for 25 % of the time (up to 91 °C)"
    assert by_time.message == "1 GPU throttled for heat, n0 GPU 7 for 25 % of the time"


def test_xid_events_are_told_by_code_with_nvidias_action_the_gravest_first() -> None:
    events = (
        Event(gpu(1), 13, fresh=True, jobs=("job 1",)),
        Event(gpu(2), 79, fresh=True, jobs=("job 1",)),
        Event(gpu(3), 79, fresh=True),
        Event(gpu(4), 79, fresh=False),
        Event(gpu(5), 9999, fresh=True),
    )
    found = seen("xid-events", fleet(*eight(), events=events))
    assert [(each.message, each.change, each.severity) for each in found] == [
        (
            "Xid 79 (GPU has fallen off the bus) on n0 GPU 2, n0 GPU 3 under job 1",
            "RESTART_BM: drain the node and restart the machine",
            "error",
        ),
        ("Xid 9999 (not in the table here) on n0 GPU 5", "CONTACT_SUPPORT: contact the vendor's support", "error"),
        (
            "Xid 13 (graphics engine exception) on n0 GPU 1 under job 1",
            "RESTART_APP: restart the application; the GPU can go on",
            "warning",
        ),
        (
            "Xid 79 (GPU has fallen off the bus) stands on n0 GPU 4 since before the window",
            "Ask a longer window, or the host's kernel log, when it came; RESTART_BM if nobody acted since: drain the node "
            "and restart the machine",
            "info",
        ),
    ]


def test_errors_that_ecc_could_not_correct_are_counted() -> None:
    (found,) = seen("uncorrected-memory-errors", fleet(*eight(), growth={"uncorrected_errors": {gpu(7): 1.0}}))
    assert found.message == "1 uncorrected memory error on 1 GPU, 1 of them on n0 GPU 7"


def test_a_row_that_cannot_be_remapped_outweighs_one_that_waits() -> None:
    state = {"remap_failed": {gpu(1): 1.0}, "remap_pending": {gpu(1): 1.0, gpu(2): 1.0}}
    grown = {"remapped_rows": {gpu(1): 1.0, gpu(3): 2.0}}
    found = seen("row-remapping", fleet(*eight(), highest=state, growth=grown))
    assert [(each.message, each.severity) for each in found] == [
        ("1 GPU with a memory row that could not be remapped", "error"),
        ("1 GPU with a memory row that waits to be remapped", "warning"),
        ("2 rows remapped for uncorrectable errors on 1 GPU, 2 of them on n0 GPU 3", None),
    ]


@pytest.mark.parametrize(("replays", "count"), [(3719.0, 0), (3720.0, 1)])  # 62 a minute for an hour
def test_pcie_replays_count_from_the_rate_of_a_healthy_link_on(replays: float, count: int) -> None:
    assert len(seen("pcie-replays", fleet(*eight(), growth={"pcie_replays": {gpu(7): replays}}))) == count


def test_nvlink_recoveries_and_a_high_rate_of_checksum_errors_are_told() -> None:
    grown = {"nvlink_recoveries": {gpu(1): 2.0}, "nvlink_crc_errors": {gpu(2): 360_000.0, gpu(3): 359_999.0}}
    assert [each.message for each in seen("nvlink-errors", fleet(*eight(), growth=grown))] == [
        "2 NVLink recoveries on 1 GPU, 2 of them on n0 GPU 1",
        "360,000 NVLink CRC errors on 1 GPU, 360,000 of them on n0 GPU 2",
    ]


@pytest.mark.parametrize(
    ("exporter", "state", "severity"),
    [
        (Exporter("n1:9400", ("n1",), 8, 1200, 1.0, up=False), "silent for 20 min; cannot be scraped", None),
        (Exporter("n1:9400", ("n1",), 8, 1200, 1.0, up=True), "silent for 20 min; answers scrapes without GPUs", None),
        (Exporter("n1:9400", ("n1",), 8, 1200, 1.0), "silent for 20 min; is no longer a target", "info"),
        (Exporter("n1:9400", ("n1",), 8, 0, 0.5, up=True), "reported 50 % of the time", None),
    ],
)
def test_an_exporter_that_went_silent_is_told(exporter: Exporter, state: str, severity: str | None) -> None:
    steady = Exporter("n0:9400", ("n0",), 8, 60, 1.0, up=True)
    (found,) = seen("exporter-silent", fleet(*eight(), exporters=(steady, exporter)))
    assert (found.message, found.severity) == (f"1 exporter with 8 GPUs {state} (n1:9400)", severity)


def test_counters_that_fell_back_are_information() -> None:
    evidence = fleet(*eight(), restarted=frozenset({gpu(1), gpu(2)}))
    assert [(f.severity, f.seen.message) for f in FLEET.find(evidence)] == [
        ("info", "counters of 2 GPUs on 1 host fell back: the driver started anew")
    ]


def test_what_is_not_served_is_named_as_not_checked() -> None:
    lacking = EVERYTHING - {"sm_active", "clock_events", "thermal_time", "socket_thermal"}
    assert list(not_checked(fleet(*eight(), present=lacking))) == [
        ("utilisation-without-sm-activity", "DCGM_FI_PROF_SM_ACTIVE"),
        ("tensor-cores-unused", "DCGM_FI_PROF_SM_ACTIVE"),
        ("thermal-throttling", "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"),
    ]


def test_without_job_labels_what_needs_them_is_not_checked() -> None:
    assert [name for name, _ in not_checked(fleet(track(0, 0.9, None)))] == [
        "memory-held-without-job",
        "gpu-apart-from-its-job",
    ]

"""The NVML backend, run through the installed `pynvml` against a fake driver library."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pynvml
import pytest
from tests.gpus.fake_driver import (
    FIELDS,
    GPM,
    H100,
    MIB,
    NOT_SUPPORTED,
    FakeDriver,
    Handler,
    fail,
    field_values,
    h100,
    installed,
    process_list,
    scalars,
    shares,
    struct,
    supported,
    text,
)

from advisor_mcp.errors import Cancelled
from advisor_mcp.gpus import DeviceReading, DriverReading, MigInstanceReading, ProcessReading, nvml, open_devices
from advisor_mcp.gpus.devices import ActivityReading, LinkReading
from advisor_mcp.gpus.nvml import asking, counters, gpm, links, queries

ABSENT = "not supported by this GPU as it is set up"
ONE = "counted between two samples, and one was taken"
UNSAMPLED = dict.fromkeys(nvml.SAMPLED, ONE)
OLDER = ("retired_pages_corrected", "retired_pages_uncorrected", "retired_pages_pending")
NO_LOG = "NVML has no getter for Xids, and this process may not read the kernel log"
MISSING = UNSAMPLED | dict.fromkeys(OLDER, ABSENT) | {"fan_percent": ABSENT, "xids": NO_LOG}
EXPECTED = DeviceReading(
    index=0,
    name="NVIDIA H100 80GB HBM3",
    uuid="GPU-1a2b3c4d-0000-1111-2222-333344445555",
    pci_bus_id="00000000:1B:00.0",
    architecture=9,
    compute_capability="9.0",
    memory_total_bytes=81559 * MIB,
    memory_used_bytes=1000 * MIB,
    memory_free_bytes=80008 * MIB,
    memory_reserved_bytes=551 * MIB,
    utilization_percent=97,
    memory_utilization_percent=41,
    sm_clock_mhz=1755,
    sm_clock_max_mhz=1980,
    memory_clock_mhz=2619,
    memory_clock_max_mhz=2620,
    power_mw=689_120,
    power_limit_mw=700_000,
    power_limit_default_mw=700_000,
    power_limit_min_mw=200_000,
    power_limit_max_mw=700_000,
    energy_mj=123_456_789,
    temperature_c=61,
    temperature_margin_c=26,
    temperature_slowdown_c=89,
    temperature_shutdown_c=92,
    memory_temperature_c=71,
    performance_state=0,
    clock_events=4,
    pcie_gen=5,
    pcie_gen_max=5,
    pcie_width=16,
    pcie_width_max=16,
    pcie_replay_count=40,
    links=(
        LinkReading(link=0, active=True, version=6, speed_mbps=26_562, errors={"replay": 7, "recovery": 0, "crc": 5}),
        LinkReading(link=1, active=False),
    ),
    ecc_enabled=True,
    ecc_volatile_corrected=3,
    ecc_volatile_uncorrected=0,
    ecc_aggregate_corrected=7,
    ecc_aggregate_uncorrected=1,
    ecc_dram_uncorrected=0,
    ecc_sram_uncorrected=0,
    remapped_rows_corrected=2,
    remapped_rows_uncorrected=1,
    row_remap_pending=False,
    row_remap_failed=False,
    row_remap_histogram=(637, 2, 1, 0, 0),
    recovery_action=0,
    mig_enabled=False,
    persistence_enabled=True,
    processes=(ProcessReading(pid=4242, name="python3.11", kind="compute", memory_bytes=996 * MIB, sm_percent=88),),
    missing=MISSING,
)


def lacking(reasons: dict[str, str], **values: Any) -> DeviceReading:
    """The H100 with some values changed, and more of them missing."""
    none: dict[str, Any] = dict.fromkeys(reasons)
    return replace(EXPECTED, **(none | values), missing=MISSING | reasons)


def read(
    *specs: dict[str, Handler],
    without: tuple[str, ...] = (),
    pause: Callable[[], float] | None = None,
    driver: FakeDriver | None = None,
) -> list[DeviceReading]:
    devices = [{name: call for name, call in spec.items() if name not in without} for spec in specs]
    used = driver or FakeDriver(devices)
    with installed(used), open_devices() as source:
        return source.devices(pause)


def used_names() -> set[str]:
    trees = [ast.parse(inspect.getsource(module)) for module in (nvml, asking, counters, gpm, links, queries)]
    attributes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id in ("nvml", "n")}


def test_every_value_of_a_gpu_lands_in_its_field() -> None:
    assert read(h100()) == [EXPECTED]


def test_two_samples_give_what_happened_between_them() -> None:
    found = read(h100(), pause=lambda: 0.0)
    link = EXPECTED.links[0] if EXPECTED.links else LinkReading(link=0)
    grown = replace(
        link, errors={"replay": 9, "recovery": 0, "crc": 5}, new_errors={"replay": 2, "recovery": 0, "crc": 0}
    )
    expected = replace(
        EXPECTED,
        sample_s=0.5,
        limited_percent={"power": 20.0, "thermal": 0.0, "sync_boost": 0.0, "board_limit": 0.0, "reliability": 0.0},
        activity=ActivityReading(
            sm_percent=91.5, sm_occupancy_percent=38.25, tensor_percent=62.12, dram_percent=44.0, fp32_percent=3.0
        ),
        pcie_replay_count=43,
        pcie_replays=3,
        pcie_tx_mib_per_s=120.0,
        pcie_rx_mib_per_s=80.0,
        link_tx_mib_per_s=2048.0,
        link_rx_mib_per_s=1024.0,
        links=(grown, LinkReading(link=1, active=False)),
        missing={name: why for name, why in MISSING.items() if name not in nvml.SAMPLED},
    )
    assert found == [expected]


def test_gpm_samples_are_freed_once_each_and_before_the_shutdown() -> None:
    driver = FakeDriver([h100(), h100()])
    read(pause=lambda: 0.0, driver=driver)
    assert len(driver.samples) == 4
    assert sorted(driver.freed) == sorted(driver.samples)
    assert driver.calls.index("nvmlShutdown") == len(driver.calls) - 1


def test_gpm_samples_are_freed_when_the_caller_gives_up() -> None:
    def withdrawn() -> float:
        raise Cancelled("the call was cancelled")

    driver = FakeDriver()
    with pytest.raises(Cancelled):
        read(pause=withdrawn, driver=driver)
    assert (len(driver.freed), driver.calls[-1]) == (1, "nvmlShutdown")


def test_a_gpm_sample_that_fails_is_freed_and_costs_the_activity() -> None:
    driver = FakeDriver(gpm={})
    [found] = read(pause=lambda: 0.0, driver=driver)
    assert (found.activity, found.missing["activity"]) == (None, ABSENT)
    assert sorted(driver.freed) == sorted(driver.samples)


@pytest.mark.parametrize("answer", [supported(0), NOT_SUPPORTED])
def test_a_gpu_before_hopper_has_no_activity_and_says_why(answer: Handler) -> None:
    spec = h100(nvmlGpmQueryDeviceSupport=answer, nvmlDeviceGetPcieThroughput=scalars(2048))
    [found] = read(spec, pause=lambda: 0.0)
    assert found.activity is None
    assert found.missing["activity"] == "this GPU has no GPM counters (Hopper and later do)"
    assert (found.pcie_tx_mib_per_s, found.pcie_rx_mib_per_s) == (2.0, 2.0)


def test_a_gpu_without_counters_is_read_all_the_same() -> None:
    spec = h100(nvmlDeviceGetFieldValues=NOT_SUPPORTED, nvmlDeviceGetPcieReplayCounter=NOT_SUPPORTED)
    [found] = read(spec, pause=lambda: 0.0)
    rates = ("limited_percent", "pcie_replays", "link_tx_mib_per_s", "link_rx_mib_per_s", "links")
    assert {name: (getattr(found, name), found.missing[name]) for name in rates} == dict.fromkeys(rates, (None, ABSENT))
    assert found.utilization_percent == 97


def test_a_gpu_that_is_lost_between_the_samples_keeps_what_is_known() -> None:
    lost = fail(pynvml.NVML_ERROR_GPU_IS_LOST)
    spec = h100(nvmlDeviceGetPcieReplayCounter=lost)
    [found] = read(spec, pause=lambda: 0.0)
    assert found == DeviceReading(index=0, failure="the GPU has fallen off the bus or is otherwise unreachable")


def test_a_throttled_time_that_steps_past_the_interval_is_the_whole_of_it() -> None:
    spec = h100(nvmlDeviceGetFieldValues=field_values(FIELDS | {74: [0, 10**9]}))
    [found] = read(spec, pause=lambda: 0.0)
    assert (found.limited_percent or {})["power"] == 100.0


def test_every_name_in_the_tables_exists_in_the_installed_binding() -> None:
    tables = (gpm.METRICS, links.ERRORS, counters.LIMITS, counters._TRAFFIC)
    named = [name for table in tables for _, name in table]
    assert [name for name in named if not hasattr(pynvml, name)] == []
    assert set(GPM) <= {name for _, name in gpm.METRICS}


def test_driver_and_cuda_versions_are_read_once_for_the_machine() -> None:
    with installed(FakeDriver()), open_devices() as source:
        assert source.driver() == DriverReading(
            driver_version="580.95.05", cuda_version=13000, confidential_compute=False
        )


def test_every_name_used_exists_in_the_installed_binding() -> None:
    names = used_names()
    assert "nvmlDeviceGetMemoryInfo" in names
    assert [name for name in sorted(names) if not hasattr(pynvml, name)] == []


def test_only_getters_are_called() -> None:
    functions = {name for name in used_names() if callable(getattr(pynvml, name)) and name.startswith("nvml")}
    reads = ("nvmlDeviceGet", "nvmlSystemGet", "nvmlInit", "nvmlShutdown")
    allowed = (*reads, "nvmlGpmSample", "nvmlGpmMigSampleGet", "nvmlGpmMetricsGet", "nvmlGpmQuery")
    assert {name for name in functions if not name.startswith(allowed)} == set()


def test_a_value_that_is_not_supported_is_none_and_keeps_its_reason() -> None:
    counters = [f"ecc_{span}_{kind}" for span in ("volatile", "aggregate") for kind in ("corrected", "uncorrected")]
    ecc = ["ecc_enabled", *counters]
    spec = h100(nvmlDeviceGetEccMode=NOT_SUPPORTED, nvmlDeviceGetTotalEccErrors=NOT_SUPPORTED)
    assert read(spec) == [lacking(dict.fromkeys(ecc, ABSENT))]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (pynvml.NVML_ERROR_NO_PERMISSION, "this process lacks the permission"),
        (pynvml.NVML_ERROR_UNKNOWN, "NVML reports: unknown error"),
        (pynvml.NVML_ERROR_TIMEOUT, "NVML reports: timeout"),
    ],
)
def test_each_error_code_is_told_in_words(code: int, reason: str) -> None:
    assert read(h100(nvmlDeviceGetPowerUsage=fail(code))) == [lacking({"power_mw": reason})]


def test_a_call_that_the_driver_does_not_have_costs_one_value() -> None:
    found = read(h100(), without=("nvmlDeviceGetArchitecture",))
    assert found == [lacking({"architecture": "this driver does not have the call"})]


def test_a_call_that_the_binding_does_not_have_costs_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pynvml, "nvmlDeviceGetArchitecture")
    assert read(h100()) == [lacking({"architecture": "the installed nvidia-ml-py does not have the call"})]


def test_a_driver_with_older_process_structures_costs_the_processes() -> None:
    found = read(h100(), without=("nvmlDeviceGetComputeRunningProcesses_v3",))
    assert found == [lacking({"processes": "this driver is older than nvidia-ml-py expects"})]


def test_a_driver_without_the_newer_calls_is_asked_the_older_ones() -> None:
    newer = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetCurrentClocksEventReasons")
    older = {"nvmlDeviceGetTemperature": scalars(61), "nvmlDeviceGetCurrentClocksThrottleReasons": scalars(4)}
    assert read(h100(**older), without=newer) == [EXPECTED]


def test_a_driver_without_the_second_memory_structure_counts_reserved_as_used() -> None:
    first = {"nvmlDeviceGetMemoryInfo": struct(total=100 * MIB, used=30 * MIB, free=70 * MIB)}
    found = read(h100(**first), without=("nvmlDeviceGetMemoryInfo_v2",))
    expected = lacking(
        {"memory_reserved_bytes": "this driver counts reserved memory as used"},
        memory_total_bytes=100 * MIB,
        memory_used_bytes=30 * MIB,
        memory_free_bytes=70 * MIB,
    )
    assert found == [expected]


@pytest.mark.parametrize("used", [1000, 1551])
def test_used_memory_leaves_out_the_reserved_share_however_the_driver_counts(used: int) -> None:
    free = 81559 - 1000 - 551
    memory = struct(total=81559 * MIB, reserved=551 * MIB, used=used * MIB, free=free * MIB)
    assert read(h100(nvmlDeviceGetMemoryInfo_v2=memory)) == [EXPECTED]


def test_an_unknown_performance_state_is_not_a_number() -> None:
    found = read(h100(nvmlDeviceGetPerformanceState=scalars(32)))
    assert found == [lacking({"performance_state": "the driver does not know it"})]


def test_a_field_value_that_fails_inside_a_successful_call_is_missing() -> None:
    left = {field: value for field, value in FIELDS.items() if field != 230}
    assert read(h100(nvmlDeviceGetFieldValues=field_values(left))) == [lacking({"recovery_action": ABSENT})]


def test_a_name_that_is_not_utf_8_costs_the_name() -> None:
    found = read(h100(nvmlDeviceGetName=text(b"NVIDIA \xff")))
    assert found == [lacking({"name": "the driver's text is not UTF-8"})]


def test_a_process_that_computes_and_draws_is_listed_once_with_its_larger_memory() -> None:
    both = {
        "nvmlDeviceGetComputeRunningProcesses_v3": process_list((6, 10 * MIB), (7, 10 * MIB), (9, 2**64 - 1)),
        "nvmlDeviceGetGraphicsRunningProcesses_v3": process_list((6, 3 * MIB), (7, 12 * MIB), (8, 5 * MIB)),
    }
    [found] = read(h100(**both, nvmlDeviceGetProcessUtilization=shares()))
    assert found.processes == (
        ProcessReading(pid=6, name="python3.11", kind="compute", memory_bytes=10 * MIB),
        ProcessReading(pid=7, name="python3.11", kind="compute", memory_bytes=12 * MIB),
        ProcessReading(pid=8, name="python3.11", kind="graphics", memory_bytes=5 * MIB),
        ProcessReading(pid=9, name="python3.11", kind="compute", memory_bytes=None),
    )


def test_a_process_that_has_ended_has_no_name() -> None:
    driver = FakeDriver()
    driver.system["nvmlSystemGetProcessName"] = fail(pynvml.NVML_ERROR_NOT_FOUND)
    with installed(driver), open_devices() as source:
        [found] = source.devices()
    assert found.processes == (
        ProcessReading(pid=4242, name=None, kind="compute", memory_bytes=996 * MIB, sm_percent=88),
    )


def mig_spec(count: int) -> dict[str, Handler]:
    instance = {
        "nvmlDeviceGetName": text(b"NVIDIA H100 80GB HBM3 MIG 1g.10gb"),
        "nvmlDeviceGetMemoryInfo_v2": struct(total=10 * MIB, reserved=0, used=4 * MIB, free=6 * MIB),
        "nvmlDeviceGetGpuInstanceId": scalars(5),
        "nvmlDeviceGetAttributes_v2": struct(multiprocessorCount=16),
    }

    def handle(device: Any, index: Any, out: Any) -> int:
        if index.value >= count:
            return int(pynvml.NVML_ERROR_NOT_FOUND)
        out._obj.spec = instance
        return 0

    return h100(
        nvmlDeviceGetMigMode=scalars(1, 1),
        nvmlDeviceGetUtilizationRates=NOT_SUPPORTED,
        nvmlDeviceGetMaxMigDeviceCount=scalars(7),
        nvmlDeviceGetMigDeviceHandleByIndex=handle,
        nvmlDeviceGetGpuInstanceId=NOT_SUPPORTED,  # of a whole GPU
        nvmlDeviceGetAttributes_v2=NOT_SUPPORTED,
    )


@pytest.mark.parametrize("count", [0, 2])
def test_a_gpu_in_mig_mode_lists_its_instances_and_says_why_it_has_no_utilisation(count: int) -> None:
    name = "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    instances = [
        MigInstanceReading(
            index=i,
            name=name,
            gpu_instance=5,
            multiprocessors=16,
            memory_total_bytes=10 * MIB,
            memory_used_bytes=4 * MIB,
        )
        for i in range(count)
    ]
    rates = ("utilization_percent", "memory_utilization_percent")
    reasons = dict.fromkeys(rates, "NVML gives no utilisation for a GPU in MIG mode")
    assert read(mig_spec(count)) == [lacking(reasons, mig_enabled=True, mig_instances=tuple(instances))]


def test_a_mig_instance_has_its_own_activity() -> None:
    driver = FakeDriver([mig_spec(1)], gpm={None: GPM, 5: {"NVML_GPM_METRIC_SM_UTIL": 12.0}})
    [found] = read(pause=lambda: 0.0, driver=driver)
    assert [instance.activity for instance in found.mig_instances or ()] == [ActivityReading(sm_percent=12.0)]
    assert found.activity is not None
    assert sorted(driver.freed) == sorted(driver.samples)
    assert len(driver.samples) == 4


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (pynvml.NVML_ERROR_GPU_IS_LOST, "the GPU has fallen off the bus or is otherwise unreachable"),
        (pynvml.NVML_ERROR_RESET_REQUIRED, "the GPU must be reset before it answers"),
    ],
)
def test_a_lost_gpu_is_reported_and_the_others_are_still_read(code: int, failure: str) -> None:
    lost = dict.fromkeys(H100, fail(code))
    [first, second] = read(lost, h100())
    assert first == DeviceReading(index=0, missing=UNSAMPLED | {"xids": NO_LOG}, failure=failure)
    assert second == replace(EXPECTED, index=1)


def test_a_gpu_that_is_lost_half_way_keeps_what_was_read() -> None:
    [found] = read(h100(nvmlDeviceGetArchitecture=fail(pynvml.NVML_ERROR_GPU_IS_LOST)))
    assert found == DeviceReading(
        index=0,
        name=EXPECTED.name,
        uuid=EXPECTED.uuid,
        pci_bus_id=EXPECTED.pci_bus_id,
        missing=UNSAMPLED | {"xids": NO_LOG},
        failure="the GPU has fallen off the bus or is otherwise unreachable",
    )


def test_a_gpu_that_this_process_may_not_open_is_reported() -> None:
    driver = FakeDriver()
    driver.system["nvmlDeviceGetHandleByIndex_v2"] = fail(pynvml.NVML_ERROR_NO_PERMISSION)
    with installed(driver), open_devices() as source:
        assert source.devices() == [DeviceReading(index=0, failure="this process lacks the permission")]


def test_a_driver_without_gpus_has_versions_and_no_devices() -> None:
    with installed(FakeDriver(devices=[])), open_devices() as source:
        assert (source.devices(), source.driver().driver_version) == ([], "580.95.05")


def test_nvml_is_shut_down_once_on_leaving() -> None:
    with installed(FakeDriver()) as driver, open_devices() as source:
        source.devices()
        before = driver.calls.count("nvmlShutdown")
    assert (before, driver.calls.count("nvmlShutdown")) == (0, 1)


def test_nvml_is_shut_down_after_an_error_of_the_caller() -> None:
    with installed(FakeDriver()) as driver, pytest.raises(KeyError), open_devices() as source:
        raise KeyError(source.devices()[0].index)
    assert driver.calls.count("nvmlShutdown") == 1


def test_an_error_while_shutting_down_is_not_the_callers() -> None:
    driver = FakeDriver()
    driver.system["nvmlShutdown"] = fail(pynvml.NVML_ERROR_UNKNOWN)
    with installed(driver), open_devices() as source:
        assert source.devices() == [EXPECTED]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
            "no NVIDIA driver on this machine (its library NVML was not found)",
        ),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "the NVIDIA driver is installed but not loaded"),
        (
            pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
            "the driver's kernel module and its library differ in version; reboot",
        ),
        (pynvml.NVML_ERROR_NO_PERMISSION, "this process may not open the NVIDIA driver"),
        (pynvml.NVML_ERROR_UNKNOWN, "NVML does not start: unknown error"),
    ],
)
def test_a_machine_without_a_working_driver_is_a_source_without_gpus(code: int, reason: str) -> None:
    with installed(FakeDriver(init=code)) as driver, open_devices() as source:
        assert (source.devices(), source.driver()) == ([], DriverReading(absent=reason))
    assert driver.calls == ["nvmlInitWithFlags"]


def test_a_machine_without_the_library_file_is_a_source_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", missing)
    with open_devices() as source:
        absent = "no NVIDIA driver on this machine (its library NVML was not found)"
        assert source.driver() == DriverReading(absent=absent)


def test_a_machine_without_nvidia_ml_py_is_a_source_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with open_devices() as source:
        assert source.driver() == DriverReading(absent="the package nvidia-ml-py is not installed")


def test_every_field_of_a_reading_is_asked_for() -> None:
    asked = {name for query in queries.QUERIES for name in query.fields} | set(nvml.SAMPLED)
    others = {"index", "vendor", "sample_s", "mig_instances", "xids", "failure", "missing"}
    assert asked | others == {field.name for field in fields(DeviceReading)}

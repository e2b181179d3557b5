"""The NVML backend, run through the installed `pynvml` against a fake driver library."""

from __future__ import annotations

import ast
import inspect
import sys
from dataclasses import fields, replace
from typing import Any

import pynvml
import pytest
from tests.gpus.fake_driver import (
    H100,
    MIB,
    NOT_SUPPORTED,
    FakeDriver,
    Handler,
    fail,
    field_value,
    installed,
    process_list,
    scalars,
    struct,
    text,
)

from advisor_mcp.gpus import DeviceReading, DriverReading, MigInstanceReading, ProcessReading, nvml, open_devices

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
    temperature_c=61,
    performance_state=0,
    clock_events=4,
    pcie_gen=5,
    pcie_gen_max=5,
    pcie_width=16,
    pcie_width_max=16,
    ecc_enabled=True,
    ecc_volatile_corrected=3,
    ecc_volatile_uncorrected=0,
    ecc_aggregate_corrected=7,
    ecc_aggregate_uncorrected=1,
    remapped_rows_corrected=2,
    remapped_rows_uncorrected=1,
    row_remap_pending=False,
    row_remap_failed=False,
    recovery_action=0,
    mig_enabled=False,
    persistence_enabled=True,
    processes=(ProcessReading(pid=4242, name="python3.11", kind="compute", memory_bytes=996 * MIB),),
)
ABSENT = "not supported by this GPU as it is set up"


def read(*specs: dict[str, Handler], without: tuple[str, ...] = ()) -> list[DeviceReading]:
    devices = [{name: call for name, call in spec.items() if name not in without} for spec in specs]
    with installed(FakeDriver(devices)), open_devices() as source:
        return source.devices()


def used_names() -> set[str]:
    tree = ast.parse(inspect.getsource(nvml))
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id in ("nvml", "n")}


def test_every_value_of_a_gpu_lands_in_its_field() -> None:
    assert read(H100) == [EXPECTED]


def test_driver_and_cuda_versions_are_read_once_for_the_machine() -> None:
    with installed(FakeDriver()), open_devices() as source:
        assert source.driver() == DriverReading(driver_version="580.95.05", cuda_version=13000)


def test_every_name_used_exists_in_the_installed_binding() -> None:
    names = used_names()
    assert "nvmlDeviceGetMemoryInfo" in names
    assert [name for name in sorted(names) if not hasattr(pynvml, name)] == []


def test_only_getters_are_called() -> None:
    functions = {name for name in used_names() if callable(getattr(pynvml, name)) and name.startswith("nvml")}
    allowed = ("nvmlDeviceGet", "nvmlSystemGet", "nvmlInit", "nvmlShutdown")
    assert {name for name in functions if not name.startswith(allowed)} == set()


def test_a_value_that_is_not_supported_is_none_and_keeps_its_reason() -> None:
    counters = [f"ecc_{span}_{kind}" for span in ("volatile", "aggregate") for kind in ("corrected", "uncorrected")]
    ecc = ["ecc_enabled", *counters]
    spec = H100 | {"nvmlDeviceGetEccMode": NOT_SUPPORTED, "nvmlDeviceGetTotalEccErrors": NOT_SUPPORTED}
    none: dict[str, Any] = dict.fromkeys(ecc)
    expected = replace(EXPECTED, **none, missing=dict.fromkeys(ecc, ABSENT))
    assert read(spec) == [expected]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (pynvml.NVML_ERROR_NO_PERMISSION, "this process lacks the permission"),
        (pynvml.NVML_ERROR_UNKNOWN, "NVML reports: unknown error"),
        (pynvml.NVML_ERROR_TIMEOUT, "NVML reports: timeout"),
    ],
)
def test_each_error_code_is_told_in_words(code: int, reason: str) -> None:
    [found] = read(H100 | {"nvmlDeviceGetPowerUsage": fail(code)})
    assert found == replace(EXPECTED, power_mw=None, missing={"power_mw": reason})


def test_a_call_that_the_driver_does_not_have_costs_one_value() -> None:
    [found] = read(H100, without=("nvmlDeviceGetArchitecture",))
    assert found == replace(EXPECTED, architecture=None, missing={"architecture": "this driver does not have the call"})


def test_a_call_that_the_binding_does_not_have_costs_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pynvml, "nvmlDeviceGetArchitecture")
    missing = {"architecture": "the installed nvidia-ml-py does not have the call"}
    assert read(H100) == [replace(EXPECTED, architecture=None, missing=missing)]


def test_a_driver_with_older_process_structures_costs_the_processes() -> None:
    [found] = read(H100, without=("nvmlDeviceGetComputeRunningProcesses_v3",))
    missing = {"processes": "this driver is older than nvidia-ml-py expects"}
    assert found == replace(EXPECTED, processes=None, missing=missing)


def test_a_driver_without_the_newer_calls_is_asked_the_older_ones() -> None:
    newer = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetCurrentClocksEventReasons")
    older = {"nvmlDeviceGetTemperature": scalars(61), "nvmlDeviceGetCurrentClocksThrottleReasons": scalars(4)}
    assert read(H100 | older, without=newer) == [EXPECTED]


def test_a_driver_without_the_second_memory_structure_counts_reserved_as_used() -> None:
    first = {"nvmlDeviceGetMemoryInfo": struct(total=100 * MIB, used=30 * MIB, free=70 * MIB)}
    [found] = read(H100 | first, without=("nvmlDeviceGetMemoryInfo_v2",))
    expected = replace(
        EXPECTED,
        memory_total_bytes=100 * MIB,
        memory_used_bytes=30 * MIB,
        memory_free_bytes=70 * MIB,
        memory_reserved_bytes=None,
        missing={"memory_reserved_bytes": "this driver counts reserved memory as used"},
    )
    assert found == expected


@pytest.mark.parametrize("used", [1000, 1551])
def test_used_memory_leaves_out_the_reserved_share_however_the_driver_counts(used: int) -> None:
    free = 81559 - 1000 - 551
    memory = struct(total=81559 * MIB, reserved=551 * MIB, used=used * MIB, free=free * MIB)
    assert read(H100 | {"nvmlDeviceGetMemoryInfo_v2": memory}) == [EXPECTED]


def test_an_unknown_performance_state_is_not_a_number() -> None:
    [found] = read(H100 | {"nvmlDeviceGetPerformanceState": scalars(32)})
    missing = {"performance_state": "the driver does not know it"}
    assert found == replace(EXPECTED, performance_state=None, missing=missing)


def test_a_field_value_that_fails_inside_a_successful_call_is_missing() -> None:
    [found] = read(H100 | {"nvmlDeviceGetFieldValues": field_value(0, pynvml.NVML_ERROR_NOT_SUPPORTED)})
    assert found == replace(EXPECTED, recovery_action=None, missing={"recovery_action": ABSENT})


def test_a_name_that_is_not_utf_8_costs_the_name() -> None:
    [found] = read(H100 | {"nvmlDeviceGetName": text(b"NVIDIA \xff")})
    assert found == replace(EXPECTED, name=None, missing={"name": "the driver's text is not UTF-8"})


def test_a_process_that_computes_and_draws_is_listed_once_with_its_larger_memory() -> None:
    both = {
        "nvmlDeviceGetComputeRunningProcesses_v3": process_list((6, 10 * MIB), (7, 10 * MIB), (9, 2**64 - 1)),
        "nvmlDeviceGetGraphicsRunningProcesses_v3": process_list((6, 3 * MIB), (7, 12 * MIB), (8, 5 * MIB)),
    }
    [found] = read(H100 | both)
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
    assert found.processes == (ProcessReading(pid=4242, name=None, kind="compute", memory_bytes=996 * MIB),)


def mig_spec(count: int) -> dict[str, Handler]:
    instance = {
        "nvmlDeviceGetName": text(b"NVIDIA H100 80GB HBM3 MIG 1g.10gb"),
        "nvmlDeviceGetMemoryInfo_v2": struct(total=10 * MIB, reserved=0, used=4 * MIB, free=6 * MIB),
    }

    def handle(device: Any, index: Any, out: Any) -> int:
        if index.value >= count:
            return int(pynvml.NVML_ERROR_NOT_FOUND)
        out._obj.spec = instance
        return 0

    return H100 | {
        "nvmlDeviceGetMigMode": scalars(1, 1),
        "nvmlDeviceGetUtilizationRates": NOT_SUPPORTED,
        "nvmlDeviceGetMaxMigDeviceCount": scalars(7),
        "nvmlDeviceGetMigDeviceHandleByIndex": handle,
    }


@pytest.mark.parametrize("count", [0, 2])
def test_a_gpu_in_mig_mode_lists_its_instances_and_says_why_it_has_no_utilisation(count: int) -> None:
    name = "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    instances = [
        MigInstanceReading(index=i, name=name, memory_total_bytes=10 * MIB, memory_used_bytes=4 * MIB)
        for i in range(count)
    ]
    rates = ("utilization_percent", "memory_utilization_percent")
    expected = replace(
        EXPECTED,
        mig_enabled=True,
        mig_instances=tuple(instances),
        utilization_percent=None,
        memory_utilization_percent=None,
        missing=dict.fromkeys(rates, "NVML gives no utilisation for a GPU in MIG mode"),
    )
    assert read(mig_spec(count)) == [expected]


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (pynvml.NVML_ERROR_GPU_IS_LOST, "the GPU has fallen off the bus or is otherwise unreachable"),
        (pynvml.NVML_ERROR_RESET_REQUIRED, "the GPU must be reset before it answers"),
    ],
)
def test_a_lost_gpu_is_reported_and_the_others_are_still_read(code: int, failure: str) -> None:
    lost = dict.fromkeys(H100, fail(code))
    assert read(lost, H100) == [DeviceReading(index=0, failure=failure), replace(EXPECTED, index=1)]


def test_a_gpu_that_is_lost_half_way_keeps_what_was_read() -> None:
    [found] = read(H100 | {"nvmlDeviceGetArchitecture": fail(pynvml.NVML_ERROR_GPU_IS_LOST)})
    assert found == DeviceReading(
        index=0,
        name=EXPECTED.name,
        uuid=EXPECTED.uuid,
        pci_bus_id=EXPECTED.pci_bus_id,
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
    asked = {name for query in nvml._QUERIES for name in query.fields}
    others = {"index", "mig_instances", "failure", "missing"}
    assert asked | others == {field.name for field in fields(DeviceReading)}

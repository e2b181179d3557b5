"""AMD GPUs through a stand-in for `amdsmi`: units, what is missing and why, and two vendors in one machine."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pynvml
import pytest
from tests.gpus import fake_driver
from tests.gpus.fake_amdsmi import MI300X, UNSUPPORTED, FakeAmdSmi, installed

from advisor_mcp.gpus import DeviceReading, DriverReading, ProcessReading, open_devices
from advisor_mcp.gpus.amd import NO_GPM, NOT_GIVEN, ONE_SAMPLE, open_amd
from advisor_mcp.gpus.devices import LinkReading
from advisor_mcp.gpus.report import inspect

MIB = 2**20
EXPECTED = DeviceReading(
    index=0,
    vendor="amd",
    name="AMD Instinct MI300X OAM",
    uuid="baff74a1-0000-1000-802b-3c4d5e6f7a8b",
    pci_bus_id="0000:05:00.0",
    compute_capability="gfx942",
    memory_total_bytes=196_592 * MIB,
    memory_used_bytes=150_000 * MIB,
    memory_free_bytes=46_592 * MIB,
    utilization_percent=96,
    memory_utilization_percent=33,
    sm_clock_mhz=1_800,
    sm_clock_max_mhz=2_100,
    memory_clock_mhz=1_300,
    memory_clock_max_mhz=1_300,
    power_mw=742_000,
    power_limit_mw=750_000,
    power_limit_default_mw=750_000,
    power_limit_min_mw=0,
    power_limit_max_mw=750_000,
    energy_mj=15_300,  # 1,000,000 counts of 15.3 µJ
    temperature_c=66,
    temperature_slowdown_c=100,
    temperature_shutdown_c=105,
    memory_temperature_c=58,
    clock_events=0x4,
    limited_percent={"power": 35.0, "thermal": 0.0},
    pcie_gen=5,
    pcie_gen_max=5,
    pcie_width=16,
    pcie_width_max=16,
    pcie_replay_count=3,
    links=(LinkReading(link=1, active=True), LinkReading(link=2, active=True), LinkReading(link=3, active=False)),
    ecc_enabled=True,
    ecc_volatile_corrected=4,
    ecc_volatile_uncorrected=0,
    retired_pages_uncorrected=1,
    retired_pages_pending=False,
    processes=(ProcessReading(pid=4242, name="python3", memory_bytes=2**30),),
    missing={
        "activity": NO_GPM,
        "pcie_replays": ONE_SAMPLE,
        "link_tx_mib_per_s": ONE_SAMPLE,
        "link_rx_mib_per_s": ONE_SAMPLE,
    },
)


def read(*gpus: dict[str, Any], sampled: bool = False) -> list[DeviceReading]:
    with installed(FakeAmdSmi(*gpus)), open_amd() as source:
        assert source is not None
        return source.devices((lambda: 0.0) if sampled else None)


def test_every_value_lands_in_its_field_in_our_units() -> None:
    assert read(MI300X) == [EXPECTED]


def test_two_samples_give_replays_and_traffic() -> None:
    expected = replace(
        EXPECTED,
        sample_s=0.5,
        pcie_replays=2,
        link_tx_mib_per_s=4.0,  # 2,048 KB in half a second
        link_rx_mib_per_s=4.0,
        missing={"activity": NO_GPM},
    )
    assert read(MI300X, sampled=True) == [expected]


def test_a_value_that_is_not_given_is_missing_and_says_so() -> None:
    [found] = read(MI300X | {"amdsmi_get_gpu_activity": {"gfx_activity": "N/A", "umc_activity": "N/A"}})
    assert found.utilization_percent is None
    assert found.missing["utilization_percent"] == NOT_GIVEN


@pytest.mark.parametrize("call", [name for name in MI300X if name != "amdsmi_get_gpu_driver_info"])
def test_a_call_that_fails_costs_its_own_values_only(call: str) -> None:
    [found] = read(MI300X | {call: UNSUPPORTED})
    lost = [name for name in found.missing if name not in EXPECTED.missing]
    kept = {name: getattr(found, name) for name in DeviceReading.__slots__ if name not in (*lost, "missing")}
    assert kept == {name: getattr(EXPECTED, name) for name in kept}
    said = {found.missing[name] for name in lost}
    assert said <= {"AMD SMI reports: feature not supported", NOT_GIVEN}
    assert lost or call == "amdsmi_get_link_metrics"


def test_thermal_violations_are_slowdowns() -> None:
    hot = MI300X["amdsmi_get_violation_status"] | {"active_hbm_thrm": True, "per_hbm_thrm": 12, "active_ppt_pwr": False}
    [found] = read(MI300X | {"amdsmi_get_violation_status": hot})
    assert (found.clock_events, found.limited_percent) == (0x40, {"power": 35.0, "thermal": 12.0})


def test_a_gpu_without_violation_counters_has_no_clock_events() -> None:
    none = dict.fromkeys(MI300X["amdsmi_get_violation_status"], "N/A")
    [found] = read(MI300X | {"amdsmi_get_violation_status": none})
    assert (found.clock_events, found.missing["clock_events"]) == (None, NOT_GIVEN)


def test_pages_that_wait_to_be_retired_are_pending() -> None:
    [found] = read(MI300X | {"amdsmi_get_gpu_bad_page_info": [{"status": 1}, {"status": 0}]})
    assert (found.retired_pages_uncorrected, found.retired_pages_pending) == (2, True)


def test_the_library_is_shut_down_on_leaving() -> None:
    with installed(FakeAmdSmi(MI300X)) as module, open_amd():
        pass
    assert module.calls == ["amdsmi_init", "amdsmi_shut_down"]


@pytest.mark.parametrize("module", [FakeAmdSmi(), FakeAmdSmi(MI300X, init=UNSUPPORTED)], ids=["no GPU", "no driver"])
def test_a_machine_without_amd_gpus_has_no_source(module: FakeAmdSmi) -> None:
    with installed(module), open_amd() as source:
        assert source is None


def test_a_machine_without_amdsmi_has_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    with open_amd() as source:
        assert source is None


def test_amdsmi_without_its_library_prints_nothing_and_is_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # as amdsmi_wrapper.py does where it finds no libamd_smi.so
    (tmp_path / "amdsmi.py").write_text(
        "print('Unable to find libamd_smi.so')\n{}['libamd_smi.so']\n", encoding="utf-8"
    )
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with open_amd() as source:
        assert source is None
    assert capsys.readouterr().out == ""


def test_two_vendors_in_one_machine_are_numbered_one_after_the_other() -> None:
    with (
        fake_driver.installed(fake_driver.FakeDriver()),
        installed(FakeAmdSmi(MI300X, MI300X)),
        open_devices() as source,
    ):
        found, driver = source.devices(), source.driver()
    assert [(gpu.index, gpu.vendor) for gpu in found] == [(0, "nvidia"), (1, "amd"), (2, "amd")]
    assert (driver.driver_version, driver.amdgpu_version) == ("580.95.05", "6.14.14")


def test_a_machine_with_amd_gpus_only_is_not_said_to_lack_a_driver() -> None:
    absent = fake_driver.FakeDriver(init=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    with fake_driver.installed(absent), installed(FakeAmdSmi(MI300X)), open_devices() as source:
        answer = inspect(source, {"AMD Instinct MI300X OAM": "mi300x"}.get)
        assert source.driver() == DriverReading(amdgpu_version="6.14.14")
    assert answer.summary == (
        "1 x AMD Instinct MI300X OAM (mi300x): 1 of 1 running kernels 96 % of the time, 146.48 of 191.98 GiB in use; "
        "1 finding, 1 note."
    )
    assert [(found.name, found.severity) for found in answer.findings] == [
        ("nvlink-down", "warning"),
        ("power-cap", "info"),
    ]
    assert answer.sources == ["doc:amd-smi-api"]

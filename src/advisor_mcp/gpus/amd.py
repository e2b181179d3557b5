"""AMD GPUs through `amdsmi` (the extra `amd`). Only getters are called: nothing here changes a device.

Functions and shapes are those of amdsmi 7.0.2's amdsmi_interface.py; units are those of AMD SMI's amdsmi.h and
amd_smi.cc (memory in MiB, temperature in °C, power in W, caps in µW, link speed in MT/s, energy in the counter's own µJ).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from advisor_mcp.gpus import sampling
from advisor_mcp.gpus.decoding import HW_THERMAL, SW_POWER_CAP, SW_THERMAL, program_name
from advisor_mcp.gpus.devices import DeviceReading, DeviceSource, DriverReading, LinkReading, Pause, ProcessReading

MIB = 2**20
NOT_GIVEN = "AMD SMI gives no such value"
NO_GPM = "AMD SMI has no counters of SM activity; rocprofiler-compute has"
ONE_SAMPLE = "counted between two samples, and one was taken"
_GENERATIONS = {2_500: 1, 5_000: 2, 8_000: 3, 16_000: 4, 32_000: 5, 64_000: 6}  # MT/s of one lane

Reader = Callable[[Any, Any], Mapping[str, Any]]


@contextmanager
def open_amd() -> Iterator[DeviceSource | None]:
    """This machine's AMD GPUs, or None where there are none or `amdsmi` cannot tell; shut down on leaving."""
    smi = _started()
    if smi is None:
        yield None
        return
    try:
        handles = _ask(smi, smi.amdsmi_get_processor_handles)[0] or []
        yield AmdDevices(smi, handles) if handles else None
    finally:
        with contextlib.suppress(smi.AmdSmiException):
            smi.amdsmi_shut_down()


def _started() -> Any:
    """The initialised module, or None: it is not installed, or has no library or driver to talk to."""
    # without its library it prints two lines and then fails with a KeyError, and a server's stdout is not for printing
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            import amdsmi
        except (ImportError, KeyError, OSError):
            return None
    smi: Any = amdsmi
    try:
        smi.amdsmi_init()
    except smi.AmdSmiException:
        return None
    return smi


class AmdDevices:
    """The GPUs behind an initialised `amdsmi` module."""

    def __init__(self, smi: Any, handles: list[Any]) -> None:
        self._smi, self._handles = smi, handles

    def driver(self) -> DriverReading:
        """The version of the amdgpu driver."""
        found, _ = _ask(self._smi, lambda: self._smi.amdsmi_get_gpu_driver_info(self._handles[0]))
        return DriverReading(amdgpu_version=_given((found or {}).get("driver_version")))

    def devices(self, pause: Pause | None = None) -> list[DeviceReading]:
        """Every AMD GPU, one reading each."""
        before = [(sampling.now(), self._counters(handle)) for handle in self._handles] if pause else []
        if pause:
            pause()
        return [
            self._reading(index, handle, before[index] if pause else None) for index, handle in enumerate(self._handles)
        ]

    def _counters(self, handle: Any) -> dict[str, int]:
        """What counts up: PCIe replays and the kB that each xGMI link carried."""
        found, _ = _fill(self._smi, handle, (_replays, _traffic))
        return {name: count for name, count in found.items() if count is not None}

    def _reading(self, index: int, handle: Any, before: tuple[float, dict[str, int]] | None) -> DeviceReading:
        values, missing = _fill(self._smi, handle, _READERS)
        values |= {"activity": None}
        missing["activity"] = NO_GPM
        if before:
            at_s, first = before
            seconds = sampling.now() - at_s
            values |= {"sample_s": round(seconds, 3)} | _between(first, self._counters(handle), seconds)
        for name in _EVERYTHING:
            if values.get(name) is None:
                missing.setdefault(name, ONE_SAMPLE if name in _SAMPLED and not before else NOT_GIVEN)
        return DeviceReading(index=index, vendor="amd", **values, missing=missing)


def _between(first: Mapping[str, int], second: Mapping[str, int], seconds: float) -> dict[str, Any]:
    grown = {name: second[name] - count for name, count in first.items() if name in second}
    rates = {f"link_{way}_mib_per_s": round(grown[way] / 1024 / seconds, 2) for way in ("tx", "rx") if way in grown}
    return {"pcie_replays": grown.get("pcie_replay_count"), **rates}


def _fill(smi: Any, handle: Any, readers: tuple[Reader, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    values, missing = dict[str, Any](), dict[str, str]()
    for reader in readers:
        found, reason = _ask(smi, partial(reader, smi, handle))
        values |= found or {}
        if found is None:
            missing |= dict.fromkeys(_FILLS[reader], reason)
    return values, missing


def _ask(smi: Any, read: Callable[[], Any]) -> tuple[Any, str]:
    """The value, or None and the reason: the one place that decides what an error of AMD SMI means."""
    try:
        return read(), ""
    except smi.AmdSmiException as error:
        said = str(getattr(error, "err_info", error)).split(" - ")[-1].strip()
        return None, f"AMD SMI reports: {said.rstrip('.').lower()}"
    except AttributeError:
        return None, "the installed amdsmi does not have the call"
    except UnicodeDecodeError:
        return None, "the driver's text is not UTF-8"


def _given(value: Any) -> Any:
    """The value, or None for AMD SMI's ways of saying that there is none."""
    return None if value in ("N/A", "", None) else value


def _name(smi: Any, handle: Any) -> dict[str, Any]:
    found = smi.amdsmi_get_gpu_asic_info(handle)
    return {"name": _given(found["market_name"]), "compute_capability": _given(found["target_graphics_version"])}


def _uuid(smi: Any, handle: Any) -> dict[str, Any]:
    return {"uuid": smi.amdsmi_get_gpu_device_uuid(handle)}


def _bus(smi: Any, handle: Any) -> dict[str, Any]:
    return {"pci_bus_id": smi.amdsmi_get_gpu_device_bdf(handle)}


def _memory(smi: Any, handle: Any) -> dict[str, Any]:
    found = smi.amdsmi_get_gpu_vram_usage(handle)
    total, used = found["vram_total"] * MIB, found["vram_used"] * MIB
    return {"memory_total_bytes": total, "memory_used_bytes": used, "memory_free_bytes": total - used}


def _activity(smi: Any, handle: Any) -> dict[str, Any]:
    found = smi.amdsmi_get_gpu_activity(handle)
    return {
        "utilization_percent": _given(found["gfx_activity"]),
        "memory_utilization_percent": _given(found["umc_activity"]),
    }


def _clocks(smi: Any, handle: Any) -> dict[str, Any]:
    core = smi.amdsmi_get_clock_info(handle, smi.AmdSmiClkType.GFX)
    memory = smi.amdsmi_get_clock_info(handle, smi.AmdSmiClkType.MEM)
    return {
        "sm_clock_mhz": _given(core["clk"]),
        "sm_clock_max_mhz": _given(core["max_clk"]),
        "memory_clock_mhz": _given(memory["clk"]),
        "memory_clock_max_mhz": _given(memory["max_clk"]),
    }


def _power(smi: Any, handle: Any) -> dict[str, Any]:
    found = smi.amdsmi_get_power_info(handle)
    kinds = ("current_socket_power", "average_socket_power", "socket_power")  # MI300, older ones, and either of the two
    watts = next((value for kind in kinds if (value := _given(found.get(kind))) is not None), None)
    return {"power_mw": None if watts is None else watts * 1000}


def _caps(smi: Any, handle: Any) -> dict[str, Any]:
    found = smi.amdsmi_get_power_cap_info(handle)
    names = {"": "power_cap", "_default": "default_power_cap", "_min": "min_power_cap", "_max": "max_power_cap"}
    return {f"power_limit{ours}_mw": found[theirs] // 1000 for ours, theirs in names.items()}


def _energy(smi: Any, handle: Any) -> dict[str, Any]:
    found = smi.amdsmi_get_energy_count(handle)
    return {"energy_mj": round(found["energy_accumulator"] * found["counter_resolution"] / 1000)}


def _temperatures(smi: Any, handle: Any) -> dict[str, Any]:
    kinds, metrics = smi.AmdSmiTemperatureType, smi.AmdSmiTemperatureMetric

    def degrees(kind: Any, metric: Any) -> int | None:
        found, _ = _ask(smi, lambda: smi.amdsmi_get_temp_metric(handle, kind, metric))
        return found if found else None

    return {
        "temperature_c": degrees(kinds.HOTSPOT, metrics.CURRENT) or degrees(kinds.EDGE, metrics.CURRENT),
        "temperature_slowdown_c": degrees(kinds.HOTSPOT, metrics.CRITICAL),
        "temperature_shutdown_c": degrees(kinds.HOTSPOT, metrics.EMERGENCY),
        "memory_temperature_c": degrees(kinds.VRAM, metrics.CURRENT),
    }


def _violations(smi: Any, handle: Any) -> dict[str, Any]:
    """Throttling, in NVML's bits as AMD maps them (rocm-systems, amdsmi/docs/conceptual/gpu-violations.md)."""
    found = smi.amdsmi_get_violation_status(handle)
    bits = {
        "ppt_pwr": SW_POWER_CAP,
        "prochot_thrm": SW_THERMAL,
        "socket_thrm": HW_THERMAL,
        "vr_thrm": HW_THERMAL,
        "hbm_thrm": HW_THERMAL,
    }
    active = {name: _given(found[f"active_{name}"]) for name in bits}
    if all(value is None for value in active.values()):
        return {"clock_events": None, "limited_percent": None}
    shares = {name: _given(found[f"per_{name}"]) for name in bits}
    thermal = [share for name, share in shares.items() if name != "ppt_pwr" and share is not None]
    limited = {"power": shares["ppt_pwr"], "thermal": max(thermal, default=None)}
    mask = 0
    for name, bit in bits.items():
        mask |= bit if active[name] else 0
    kept = {name: float(share) for name, share in limited.items() if share is not None}
    return {"clock_events": mask, "limited_percent": kept or None}


def _pcie(smi: Any, handle: Any) -> dict[str, Any]:
    found = smi.amdsmi_get_pcie_info(handle)
    static, metric = found["pcie_static"], found["pcie_metric"]
    return {
        "pcie_gen": _GENERATIONS.get(metric["pcie_speed"]),
        "pcie_gen_max": _GENERATIONS.get(static["max_pcie_speed"]),
        "pcie_width": _given(metric["pcie_width"]),
        "pcie_width_max": _given(static["max_pcie_width"]),
        "pcie_replay_count": _given(metric["pcie_replay_count"]),
    }


def _replays(smi: Any, handle: Any) -> dict[str, Any]:
    metric = smi.amdsmi_get_pcie_info(handle)["pcie_metric"]
    return {"pcie_replay_count": _given(metric["pcie_replay_count"])}


def _links(smi: Any, handle: Any) -> dict[str, Any]:
    """The xGMI links; a link that is disabled is none of this GPU's."""
    found = smi.amdsmi_get_gpu_xgmi_link_status(handle)["status"]
    return {
        "links": tuple(
            LinkReading(link=place, active=state == "U") for place, state in enumerate(found) if state in ("U", "D")
        )
    }


def _traffic(smi: Any, handle: Any) -> dict[str, Any]:
    found = smi.amdsmi_get_link_metrics(handle)
    links = found["links"][: found["num_links"]]
    return {"tx": sum(link["write"] for link in links), "rx": sum(link["read"] for link in links)}


def _ecc(smi: Any, handle: Any) -> dict[str, Any]:
    found = smi.amdsmi_get_gpu_total_ecc_count(handle)
    return {
        "ecc_volatile_corrected": found["correctable_count"],
        "ecc_volatile_uncorrected": found["uncorrectable_count"],
    }


def _ecc_mode(smi: Any, handle: Any) -> dict[str, Any]:
    return {"ecc_enabled": smi.amdsmi_get_gpu_ecc_enabled(handle) != 0}


def _bad_pages(smi: Any, handle: Any) -> dict[str, Any]:
    pages = smi.amdsmi_get_gpu_bad_page_info(handle)
    waiting = smi.AmdSmiMemoryPageStatus.PENDING
    return {
        "retired_pages_uncorrected": len(pages),
        "retired_pages_pending": any(page["status"] == waiting for page in pages),
    }


def _processes(smi: Any, handle: Any) -> dict[str, Any]:
    found = [
        ProcessReading(
            pid=process["pid"],
            name=program_name(_given(process["name"]) or ""),
            memory_bytes=process["memory_usage"]["vram_mem"] or process["mem"] or None,
        )
        for process in smi.amdsmi_get_gpu_process_list(handle)
    ]
    return {"processes": tuple(sorted(found, key=lambda process: process.pid))}


_FILLS: Mapping[Reader, tuple[str, ...]] = {
    _name: ("name", "compute_capability"),
    _uuid: ("uuid",),
    _bus: ("pci_bus_id",),
    _memory: ("memory_total_bytes", "memory_used_bytes", "memory_free_bytes"),
    _activity: ("utilization_percent", "memory_utilization_percent"),
    _clocks: ("sm_clock_mhz", "sm_clock_max_mhz", "memory_clock_mhz", "memory_clock_max_mhz"),
    _power: ("power_mw",),
    _caps: ("power_limit_mw", "power_limit_default_mw", "power_limit_min_mw", "power_limit_max_mw"),
    _energy: ("energy_mj",),
    _temperatures: ("temperature_c", "temperature_slowdown_c", "temperature_shutdown_c", "memory_temperature_c"),
    _violations: ("clock_events", "limited_percent"),
    _pcie: ("pcie_gen", "pcie_gen_max", "pcie_width", "pcie_width_max", "pcie_replay_count"),
    _links: ("links",),
    _ecc: ("ecc_volatile_corrected", "ecc_volatile_uncorrected"),
    _ecc_mode: ("ecc_enabled",),
    _bad_pages: ("retired_pages_uncorrected", "retired_pages_pending"),
    _processes: ("processes",),
    _replays: (),
    _traffic: (),
}
"""The fields of a reading that each reader fills."""

_READERS = tuple(reader for reader, fields in _FILLS.items() if fields)
_SAMPLED = ("pcie_replays", "link_tx_mib_per_s", "link_rx_mib_per_s")
_EVERYTHING = (*(field for fields in _FILLS.values() for field in fields), *_SAMPLED)

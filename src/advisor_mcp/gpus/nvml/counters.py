"""What counts up while a GPU runs, read twice: errors, throttled time and traffic between the two samples.

The fields are those that have kept their numbers: 269 to 271, the newer throttle times, were 251 to 253 in the NVML of
driver 570, where 269 is something else, so 74 to 79 are asked for, which mean the same on every driver.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from advisor_mcp.gpus import sampling
from advisor_mcp.gpus.devices import ActivityReading, LinkReading
from advisor_mcp.gpus.nvml import gpm
from advisor_mcp.gpus.nvml.asking import NOT_SUPPORTED, Absent, ask, fields

ONE_SAMPLE = "counted between two samples, and one was taken"
KIB_PER_MIB = 1024
ALL_LINKS = 0xFFFFFFFF

LIMITS = (
    ("power", "NVML_FI_DEV_PERF_POLICY_POWER"),
    ("thermal", "NVML_FI_DEV_PERF_POLICY_THERMAL"),
    ("sync_boost", "NVML_FI_DEV_PERF_POLICY_SYNC_BOOST"),
    ("board_limit", "NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT"),
    ("reliability", "NVML_FI_DEV_PERF_POLICY_RELIABILITY"),
)
"""Why the clocks were held down, and the counter of the nanoseconds in which they were (nvml.h of NVML 13)."""

_TRAFFIC = (
    ("link_tx", "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX"),
    ("link_rx", "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """The counters of one GPU at one moment: seconds of a monotonic clock, counts by name, GPM samples by MIG instance.

    `reasons` says why a count or, under "activity", the GPM sample of the whole GPU is not there.
    """

    at_s: float
    counts: Mapping[str, int]
    activity: Mapping[int | None, Any]
    reasons: Mapping[str, str]


def take(nvml: Any, handle: Any, instances: tuple[int, ...], stack: ExitStack) -> Sample:
    """Read every counter now; the GPM samples are freed when the stack is left."""
    counts, reasons = dict[str, int](), dict[str, str]()
    found = _fields(nvml, handle) | {"pcie_replays": _replays(nvml, handle)}
    for name, value in found.items():
        if isinstance(value, Absent):
            reasons[name] = value.reason
        else:
            counts[name] = value
    activity = dict[int | None, Any]()
    supported, why = ask(nvml, lambda: gpm.is_supported(nvml, handle))
    if not supported:
        reasons["activity"] = gpm.UNSUPPORTED if why in ("", NOT_SUPPORTED) else why
        return Sample(sampling.now(), counts, activity, reasons)
    for instance in (None, *instances):
        taken, why = _gpm(nvml, handle, instance, stack)
        if taken is not None:
            activity[instance] = taken
        elif instance is None:
            reasons["activity"] = why
    return Sample(sampling.now(), counts, activity, reasons)


def _replays(nvml: Any, handle: Any) -> Any:
    found, why = ask(nvml, lambda: nvml.nvmlDeviceGetPcieReplayCounter(handle))
    return Absent(why) if found is None else found


def _fields(nvml: Any, handle: Any) -> dict[str, Any]:
    asked = [(name, getattr(nvml, field)) for name, field in LIMITS]
    asked += [(name, (getattr(nvml, field), ALL_LINKS)) for name, field in _TRAFFIC]
    found, why = ask(nvml, lambda: fields(nvml, handle, [field for _, field in asked]))
    return {name: value for (name, _), value in zip(asked, found or [Absent(why)] * len(asked), strict=True)}


def _gpm(nvml: Any, handle: Any, instance: int | None, stack: ExitStack) -> tuple[Any, str]:
    found, why = ask(nvml, lambda: stack.enter_context(gpm.sample(nvml, handle, instance)))
    return found, why


def between(nvml: Any, before: Sample, after: Sample) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of a reading that two samples give, and why the others are missing."""
    seconds = after.at_s - before.at_s
    values: dict[str, Any] = {"sample_s": round(seconds, 3)}
    missing = dict[str, str]()
    grown = {name: count - before.counts[name] for name, count in after.counts.items() if name in before.counts}
    limited = {name: _percent(grown[name], seconds) for name, _ in LIMITS if name in grown}
    _put(values, missing, "limited_percent", limited or None, after.reasons.get("power", NOT_SUPPORTED))
    _put(values, missing, "pcie_replays", grown.get("pcie_replays"), after.reasons.get("pcie_replays", NOT_SUPPORTED))
    metrics, why = _metrics(nvml, before, after, None)
    _put(values, missing, "activity", _activity(metrics), why)
    traffic = {
        f"{name}_mib_per_s": round(grown[name] / KIB_PER_MIB / seconds, 2) for name, _ in _TRAFFIC if name in grown
    }
    traffic |= {name: value for name, value in (metrics or {}).items() if name.endswith("_mib_per_s")}
    for name, _ in _TRAFFIC:
        rate = traffic.pop(f"{name}_mib_per_s", None)
        _put(values, missing, f"{name}_mib_per_s", rate, after.reasons.get(name, NOT_SUPPORTED))
    return values | traffic, missing


def instance_activity(nvml: Any, before: Sample, after: Sample, instance: int) -> ActivityReading | None:
    """What one MIG instance did between the samples, or None."""
    return _activity(_metrics(nvml, before, after, instance)[0])


def new_link_errors(before: tuple[LinkReading, ...], after: tuple[LinkReading, ...]) -> tuple[LinkReading, ...]:
    """The links of the second reading, with what their error counters grew by since the first."""
    first = {link.link: link.errors for link in before}
    return tuple(
        replace(link, new_errors={k: n - first[link.link][k] for k, n in link.errors.items() if k in first[link.link]})
        if link.link in first and link.errors
        else link
        for link in after
    )


def _metrics(nvml: Any, before: Sample, after: Sample, instance: int | None) -> tuple[dict[str, float] | None, str]:
    if instance not in before.activity or instance not in after.activity:
        return None, after.reasons.get("activity") or before.reasons.get("activity", NOT_SUPPORTED)
    return ask(nvml, lambda: gpm.metrics(nvml, before.activity[instance], after.activity[instance]))


def _activity(metrics: Mapping[str, float] | None) -> ActivityReading | None:
    shares = {name: value for name, value in (metrics or {}).items() if name.endswith("_percent")}
    return ActivityReading(**shares) if shares else None


def _percent(grown_ns: int, seconds: float) -> float:
    # the counters move in steps, so that a short interval can gain more than its length
    return round(min(max(grown_ns / 1e9 / seconds, 0.0), 1.0) * 100, 1)


def _put(values: dict[str, Any], missing: dict[str, str], name: str, value: Any, why: str) -> None:
    if value is None:
        missing[name] = why
    else:
        values[name] = value

"""What exporters would have served: GPUs with labels and values over time, as OpenMetrics text and as a scrape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

BEYOND_S = 300
Level: TypeAlias = "float | Callable[[float], float | None]"
"""A value, or a function of the seconds before the end (negative) that gives one, or None for no sample."""


@dataclass(frozen=True)
class Gpu:
    """One series set: a GPU in the hands of one job. `metrics` maps names (with more labels in braces) to levels."""

    host: str
    index: int
    metrics: Mapping[str, Level]
    labels: Mapping[str, str] = field(default_factory=dict)
    model: str = "NVIDIA H100 80GB HBM3"

    def series(self, name: str) -> str:
        """The series of a metric as the exposition format writes it."""
        base, _, extra = name.partition("{")
        labels = {
            "gpu": str(self.index),
            "UUID": f"GPU-{self.host}-{self.index}",
            "device": f"nvidia{self.index}",
            "modelName": self.model,
            "hostname": self.host,
            **self.labels,
        }
        inner = ",".join(f'{key}="{text}"' for key, text in labels.items())
        return f"{base}{{{inner}{',' + extra.rstrip('}') if extra else ''}}}"


def busy(activity: float, tensor: float = 0.4, memory: float = 60_000, **more: Level) -> dict[str, Level]:
    """The metrics of a GPU at a steady activity of its multiprocessors, 0 to 1, healthy in all else."""
    return {
        "DCGM_FI_PROF_SM_ACTIVE": activity,
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE": min(1.0, activity * 1.05),
        "DCGM_FI_DEV_GPU_UTIL": round(100 * min(1.0, activity * 1.1)),
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": tensor if activity else 0.0,
        "DCGM_FI_PROF_DRAM_ACTIVE": 0.3 if activity else 0.0,
        "DCGM_FI_DEV_FB_USED": memory,
        "DCGM_FI_DEV_POWER_USAGE": 650 if activity else 80,
        "DCGM_FI_DEV_GPU_TEMP": 62 if activity else 35,
        "DCGM_FI_DEV_SM_CLOCK": 1755 if activity else 345,
        "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": 4 if activity else 1,
        "DCGM_FI_DEV_XID_ERRORS": 0,
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": 0,
        "DCGM_FI_DEV_ROW_REMAP_FAILURE": 0,
        "DCGM_FI_DEV_ROW_REMAP_PENDING": 0,
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 0,
        "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": 0,
        "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL": 0,
        "DCGM_FI_DEV_THERMAL_VIOLATION": 0,
        **more,
    }


def slurm(number: int | str) -> dict[str, str]:
    """The label of a Slurm job."""
    return {"hpc_job": str(number)}


def history(gpus: list[Gpu], end: float, length_s: float, every_s: float) -> str:
    """OpenMetrics text with a sample of every GPU every so many seconds, for promtool to make blocks of.

    It goes on a little beyond `end`, since a server's clock goes on while a test asks it. Like a scrape, it has the
    target's labels `instance` and `job`.
    """
    lines = defaultdict[str, list[str]](list)
    count, beyond = int(length_s // every_s), int(BEYOND_S // every_s)
    for gpu in gpus:
        for name, level in gpu.metrics.items():
            series = gpu.series(name)[:-1] + f',instance="{gpu.host}:9400",job="dcgm"}}'
            for number in range(count + beyond + 1):
                before = (number - count) * every_s
                value = level(before) if callable(level) else level
                if value is not None:
                    lines[name.partition("{")[0]].append(f"{series} {value} {end + before:.3f}")
    text = (f"# TYPE {name} gauge\n" + "\n".join(rows) + "\n" for name, rows in lines.items())
    return "".join(text) + "# EOF\n"


def scrape(gpus: list[Gpu]) -> str:
    """What the exporter answers to a scrape now."""
    lines = defaultdict[str, list[str]](list)
    for gpu in gpus:
        for name, level in gpu.metrics.items():
            value = level(0.0) if callable(level) else level
            if value is not None:
                lines[name.partition("{")[0]].append(f"{gpu.series(name)} {value}")
    return "".join(f"# HELP {name} x\n# TYPE {name} gauge\n" + "\n".join(rows) + "\n" for name, rows in lines.items())

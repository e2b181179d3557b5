"""Which GPU and which job a series belongs to, from its labels alone.

Labels are those that the exporters set (NVIDIA/dcgm-exporter d5e5f510, internal/pkg/rendermetrics/render_metrics.go and
internal/pkg/transformation/const.go; ROCm/device-metrics-exporter afd0fe81, docs/configuration/configmap.md) and those
that Prometheus adds; it renames an exporter's `pod` to `exported_pod` where the target has a label `pod` of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from advisor_mcp.gpus.fleet.client import Labels

_HOSTS = ("Hostname", "hostname", "exported_hostname", "node", "instance")  # dcgm-exporter#655 made it lower case
_UUIDS = ("UUID", "uuid", "gpu_uuid", "serial_number")
_INDICES = ("gpu", "gpu_id")
_PARTITIONS = ("GPU_I_ID", "gpu_partition_id")
_MODELS = ("modelName", "model_name", "card_model")
_BATCH_JOBS = ("hpc_job", "job_id")  # Slurm's, from dcgm-exporter and from AMD's exporter
_EXPORTERS_OWN = re.compile(r"dcgm-exporter|metrics-exporter", re.IGNORECASE)
_ORDINAL = re.compile(r"-\d+$")
_SLICES = {"A30": 4}
"""Compute slices of a whole GPU, where they are not seven (NVIDIA MIG user guide, supported profiles)."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A GPU, or a part of one; `share` is how much of a GPU it is."""

    id: str
    host: str
    index: str
    model: str | None = None
    share: float = 1

    def __str__(self) -> str:
        return f"{self.host} GPU {self.index}"


def unit(labels: Labels) -> Unit | None:
    """The GPU or partition of a series; None for a series of something else, such as a link switch or a CPU."""
    index = _first(labels, _INDICES)
    uuid = _first(labels, _UUIDS)
    if index is None and uuid is None:
        return None
    host = _host(labels)
    part = _first(labels, _PARTITIONS)
    part = None if part in (None, "", "NA") or (part == "0" and "gpu_partition_id" in labels) else part
    name = "/".join(each for each in (uuid or f"{host}/{index}", part) if each)
    if "serial_number" in labels:  # one serial number may stand for a card with several GPUs
        name = f"{host}/{index}/{name}"
    shown = (index or uuid or "?") + (f" part {part}" if part else "")
    model = _first(labels, _MODELS)
    return Unit(name, host, shown, model, _share(labels.get("GPU_I_PROFILE"), model))


def _host(labels: Labels) -> str:
    found = _first(labels, _HOSTS) or "unknown host"
    return found.rpartition(":")[0] or found if found == labels.get("instance") else found


def _share(profile: str | None, model: str | None) -> float:
    slices = re.match(r"(\d)g\.", profile or "")
    if slices is None:
        return 1
    whole = next((count for name, count in _SLICES.items() if name in (model or "")), 7)
    return int(slices[1]) / whole


def job(labels: Labels, renamed: bool = False) -> str | None:
    """The job that holds the GPU, or None where no label names one.

    Slurm's number first; else namespace and pod, the pod without its trailing ordinal, so that `train-0` and `train-1`
    are one job. A pod label that names the exporter itself says nothing about who holds the GPU; where Prometheus has
    `renamed` the holders' labels, every plain one is the exporter's.
    """
    if batch := _first(labels, _BATCH_JOBS):
        return f"job {batch}"
    prefix = "exported_" if renamed or labels.get("exported_pod") else ""
    pod = labels.get(f"{prefix}pod") or labels.get("pod_name")  # the latter from dcgm-exporter's old namespace
    container = labels.get(f"{prefix}container", "")
    if not pod or _EXPORTERS_OWN.search(pod) or _EXPORTERS_OWN.search(container):
        return None
    space = labels.get(f"{prefix}namespace") or labels.get("pod_namespace")
    stem = _ORDINAL.sub("", pod) or pod
    return f"{space}/{stem}" if space else stem


def exporter(labels: Labels) -> str | None:
    """The target that the series was scraped from."""
    return labels.get("instance")


def _first(labels: Labels, names: tuple[str, ...]) -> str | None:
    return next((labels[name] for name in names if labels.get(name)), None)

"""NVML's GPM counters: what the SMs did between two samples. Hopper and later, bare metal and MIG-backed vGPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

UNSUPPORTED = "this GPU has no GPM counters (Hopper and later do)"

METRICS = (
    ("sm_percent", "NVML_GPM_METRIC_SM_UTIL"),
    ("sm_occupancy_percent", "NVML_GPM_METRIC_SM_OCCUPANCY"),
    ("tensor_percent", "NVML_GPM_METRIC_ANY_TENSOR_UTIL"),
    ("hmma_percent", "NVML_GPM_METRIC_HMMA_TENSOR_UTIL"),
    ("imma_percent", "NVML_GPM_METRIC_IMMA_TENSOR_UTIL"),
    ("dmma_percent", "NVML_GPM_METRIC_DMMA_TENSOR_UTIL"),
    ("fp64_percent", "NVML_GPM_METRIC_FP64_UTIL"),
    ("fp32_percent", "NVML_GPM_METRIC_FP32_UTIL"),
    ("fp16_percent", "NVML_GPM_METRIC_FP16_UTIL"),
    ("integer_percent", "NVML_GPM_METRIC_INTEGER_UTIL"),
    ("dram_percent", "NVML_GPM_METRIC_DRAM_BW_UTIL"),
    ("pcie_tx_mib_per_s", "NVML_GPM_METRIC_PCIE_TX_PER_SEC"),
    ("pcie_rx_mib_per_s", "NVML_GPM_METRIC_PCIE_RX_PER_SEC"),
    ("link_tx_mib_per_s", "NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC"),
    ("link_rx_mib_per_s", "NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC"),
)
"""The fields of `ActivityReading`, and the traffic, with the metric that fills each; units are the metrics' own."""


def is_supported(nvml: Any, handle: Any) -> bool:
    """Whether the GPU has GPM counters; raises NVML's error where the driver cannot say."""
    return bool(nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice)


@contextmanager
def sample(nvml: Any, handle: Any, instance: int | None = None) -> Iterator[Any]:
    """A sample of the GPU, or of one of its MIG instances, taken on entering and freed on leaving."""
    taken = nvml.nvmlGpmSampleAlloc()
    try:
        if instance is None:
            nvml.nvmlGpmSampleGet(handle, taken)
        else:
            nvml.nvmlGpmMigSampleGet(handle, instance, taken)
        yield taken
    finally:
        with suppress(nvml.NVMLError):
            nvml.nvmlGpmSampleFree(taken)


def metrics(nvml: Any, before: Any, after: Any) -> dict[str, float]:
    """The metrics between two samples, by their names in `METRICS`; one that the GPU does not have is left out."""
    request = nvml.c_nvmlGpmMetricsGet_t()
    request.version = nvml.NVML_GPM_METRICS_GET_VERSION
    request.numMetrics = len(METRICS)
    request.sample1, request.sample2 = before, after
    for place, (_, metric) in enumerate(METRICS):
        request.metrics[place].metricId = getattr(nvml, metric)
    nvml.nvmlGpmMetricsGet(request)
    found = zip(METRICS, request.metrics, strict=False)
    return {
        name: round(metric.value, 2)
        for (name, _), metric in found
        if metric.nvmlReturn == nvml.NVML_SUCCESS and math.isfinite(metric.value)
    }

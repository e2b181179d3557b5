"""How labels, names and windows are taken, without a server."""

from __future__ import annotations

import re

import pytest
from tests.gpus.fleet.fleets import fleet, track

from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.gpus.fleet.identity import Unit, job, unit
from advisor_mcp.gpus.fleet.metrics import PATTERN, served
from advisor_mcp.gpus.fleet.reading import Plan, planned, seconds
from advisor_mcp.gpus.xids import named

H100 = {"gpu": "3", "UUID": "GPU-1", "modelName": "NVIDIA H100", "hostname": "n1", "instance": "10.0.0.1:9400"}
AMD = {"gpu_id": "2", "serial_number": "S1", "card_model": "102-D65209", "hostname": "m1", "gpu_partition_id": "0"}


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (H100, Unit("GPU-1", "n1", "3", "NVIDIA H100")),
        ({**H100, "Hostname": "old"}, Unit("GPU-1", "old", "3", "NVIDIA H100")),
        ({"gpu": "0", "instance": "10.0.0.1:9400"}, Unit("10.0.0.1/0", "10.0.0.1", "0")),
        (H100 | {"GPU_I_ID": "7", "GPU_I_PROFILE": "3g.40gb"}, Unit("GPU-1/7", "n1", "3 part 7", "NVIDIA H100", 3 / 7)),
        (
            {**H100, "modelName": "NVIDIA A30", "GPU_I_ID": "1", "GPU_I_PROFILE": "1g.6gb"},
            Unit("GPU-1/1", "n1", "3 part 1", "NVIDIA A30", 1 / 4),
        ),
        (AMD, Unit("m1/2/S1", "m1", "2", "102-D65209")),
        ({"nvswitch": "nvswitch0", "hostname": "n1"}, None),
    ],
)
def test_the_gpu_of_a_series(labels: dict[str, str], found: Unit | None) -> None:
    assert unit(labels) == found


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ({"hpc_job": "42", "pod": "x"}, "job 42"),
        ({"job_id": "7"}, "job 7"),
        ({"job": "dcgm"}, None),  # the scrape job says nothing
        ({"namespace": "ml", "pod": "train-worker-3"}, "ml/train-worker"),
        ({"namespace": "ml", "pod": "vllm-7d4b9c-x2x4z"}, "ml/vllm-7d4b9c-x2x4z"),
        ({"pod": "dcgm-exporter-abc", "namespace": "gpu-operator", "exported_pod": "t-0", "exported_namespace": "ml"}, "ml/t"),
        ({"pod": "nvidia-dcgm-exporter-abc", "namespace": "gpu-operator"}, None),
        ({"pod_name": "t-0", "pod_namespace": "ml"}, "ml/t"),
        ({"pod": "", "namespace": ""}, None),
    ],
)  # fmt: skip
def test_the_job_of_a_series(labels: dict[str, str], found: str | None) -> None:
    assert job(labels) == found


def test_where_prometheus_renames_labels_a_plain_pod_is_the_exporters() -> None:
    assert job({"pod": "gpu-metrics-x", "namespace": "monitoring"}, renamed=True) is None


def test_metrics_are_known_by_old_and_new_names_and_behind_a_prefix() -> None:
    names = ["DCGM_FI_PROF_SM_UTIL_RATIO", "amd_gpu_gfx_activity", "node_load1", "gpu_used_vram"]
    assert [(metric.key, metric.name) for metric in served(names)] == [
        ("sm_active", "DCGM_FI_PROF_SM_UTIL_RATIO"),
        ("engine_active", "amd_gpu_gfx_activity"),
        ("memory_used", "gpu_used_vram"),
    ]
    assert [bool(re.fullmatch(PATTERN, name)) for name in names] == [True, True, False, True]


def test_an_error_is_counted_by_one_counter() -> None:
    both = ["DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"]
    assert [metric.name for metric in served(both)] == ["DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"]
    assert [metric.name for metric in served(both[:1])] == ["DCGM_FI_DEV_ECC_DBE_AGG_TOTAL"]


@pytest.mark.parametrize(
    ("window", "length"), [("1m", 60), ("30m", 1800), ("1h", 3600), ("7d", 604_800), (" 1w ", 604_800)]
)
def test_a_window_is_a_length(window: str, length: int) -> None:
    assert seconds(window) == length


@pytest.mark.parametrize("window", ["", "1", "h", "1y", "-1h", "1.5h", "59s", "32d", "99999999d", "1h30m"])
def test_another_window_is_refused(window: str) -> None:
    with pytest.raises(UsageError, match="window must be a length such as 30m, 1h or 7d"):
        seconds(window)


def test_steps_are_two_scrapes_long_and_at_most_240() -> None:
    assert planned(0, 3600, 30, 8, 400_000) == Plan(0, 60, 60, 30)
    assert planned(0, 86_400, 15, 8, 400_000) == Plan(0, 360, 240, 15)


def test_many_series_make_steps_coarser_and_too_many_are_refused() -> None:
    assert planned(0, 3600, 1, 4000, 400_000) == Plan(0, 36, 100, 1)
    with pytest.raises(CannotAnswer, match="40,000 series in the window are more than can be read over time"):
        planned(0, 3600, 1, 40_000, 400_000)


def test_a_window_shorter_than_two_scrapes_is_one_step() -> None:
    assert planned(0, 60, 60, 1, 400_000) == Plan(0, 60, 1, 60)


def test_a_gpu_that_jobs_share_is_counted_once() -> None:
    shared = fleet(track(0, 0.5, "job 1"), track(0, 0.5, "job 2"), track(1, 0.5, share=3 / 7))
    assert shared.total_hours == pytest.approx(1 + 3 / 7)
    assert shared.uses["job 2"].hours == pytest.approx(0.5)


def test_the_hours_of_a_job_are_those_in_which_it_held_the_gpu() -> None:
    one_after_the_other = fleet(track(0, 0.9, "job 1", range(15)), track(0, 0.0, "job 2", range(15, 60)))
    uses = one_after_the_other.uses
    assert [(uses[name].hours, uses[name].idle_hours) for name in ("job 1", "job 2")] == [(0.25, 0), (0.75, 0.75)]


def test_every_xid_of_the_table_has_an_action_in_words() -> None:
    assert [code for code in range(200) if not named(code).action] == []
    assert (named(79).severity, named(31).severity, named(63).severity) == ("error", "warning", "info")

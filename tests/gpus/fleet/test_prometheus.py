"""`inspect_gpus` over a real Prometheus: history that promtool made, and a live scrape of an exporter of the test's own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.gpus.fleet.samples import Gpu, busy, history, scrape, slurm
from tests.gpus.fleet.servers import backfill, exporter, prometheus, until, value

from advisor_mcp import cli
from advisor_mcp.declaration import Silent
from advisor_mcp.errors import CannotAnswer
from advisor_mcp.gpus import fleet
from advisor_mcp.gpus.fleet.address import parsed
from advisor_mcp.gpus.fleet.client import Prometheus
from advisor_mcp.gpus.fleet.rows import FleetRow, NotChecked
from advisor_mcp.gpus.report import InspectedGpus

HOUR, EVERY = 3600, 30


def pod(namespace: str, name: str) -> dict[str, str]:
    """The labels of a pod that holds a GPU, as a Prometheus without honor_labels stores them."""
    own = {"namespace": "gpu-operator", "pod": "gpu-metrics-x1", "container": "exporter"}
    return own | {"exported_namespace": namespace, "exported_pod": name, "exported_container": "main"}


def since(minutes: float, then: float, before: float = 0) -> Any:
    """A level that changes so many minutes before the end."""
    return lambda at: then if at >= -60 * minutes else before


SICK = {
    "DCGM_FI_DEV_SM_CLOCK": 1200,
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": since(20, 0x48, 0x4),
    "DCGM_FI_DEV_XID_ERRORS": since(10, 94),
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": since(10, 3, 1),
    "DCGM_FI_DEV_ROW_REMAP_PENDING": since(10, 1),
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": lambda at: 8000 + 2 * at,
}


def sick_cluster() -> list[Gpu]:
    """Four hosts: one job well but for a sick GPU, one idle, one that ended and left memory behind, one pair gone silent."""
    return [
        *(Gpu("n0", index, busy(0.9), slurm(1)) for index in range(7)),
        Gpu("n0", 7, busy(0.9, **SICK), slurm(1)),
        *(Gpu("n1", index, busy(0.0), slurm(2)) for index in range(4)),
        *(
            Gpu("n2", index, {name: _until(30, level) for name, level in busy(0.9).items()}, slurm(3))
            for index in range(2)
        ),
        *(Gpu("n2", index, {name: _from(30, level) for name, level in busy(0.0).items()}) for index in range(2)),
        *(
            Gpu("n3", index, {name: _until(20, level) for name, level in busy(0.9).items()}, slurm(4))
            for index in range(2)
        ),
    ]


def _until(minutes: float, level: Any) -> Any:
    return lambda at: level if at < -60 * minutes else None


def _from(minutes: float, level: Any) -> Any:
    return lambda at: level if at >= -60 * minutes else None


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus with an hour of the sick cluster."""
    folder = tmp_path_factory.mktemp("sick")
    backfill(folder, history(sick_cluster(), time.time(), HOUR, EVERY))
    with prometheus(folder) as url:
        yield url


def inspected(url: str, window: str = "1h", detail: Any = "brief") -> InspectedGpus:
    return fleet.inspect(url, window, detail, Silent())


def row(answer: InspectedGpus) -> FleetRow:
    assert answer.fleet is not None
    return answer.fleet


def found(answer: InspectedGpus) -> dict[str, str]:
    return {finding.name: finding.message for finding in answer.findings}


def test_an_hour_of_a_sick_cluster_gives_every_finding_with_its_number(sick: str) -> None:
    answer = inspected(sick, detail="full")
    # bits set for 20 of 60 minutes; 2 new errors; 4 GPUs idle for an hour; 555 of 1755 MHz; 2 x 60,000 MiB held;
    # 2 replays a second; 1 GPU with an Xid and a waiting row; 2 GPUs of n3 silent for 20 minutes
    measured = {finding.name: finding.measured for finding in answer.findings}
    assert measured == pytest.approx(
        {
            "hardware-slowdown": 100 / 3,
            "uncorrected-memory-errors": 2,
            "gpus-idle-in-job": 4,
            "gpu-apart-from-its-job": 100 * 555 / 1755,
            "memory-held-without-job": 2 * 60_000 / 1024,
            "pcie-replays": 7200,
            "row-remapping": 1,
            "xid-events": 1,
            "exporter-silent": 2,
        },
        rel=0.06,  # the window's ends fall between steps and between scrapes
    )
    assert found(answer)["xid-events"] == "Xid 94 (contained memory error) on n0 GPU 7 under job 1"
    assert found(answer)["exporter-silent"].endswith("min; is no longer a target (n3:9400)")


def test_the_figures_of_the_sick_cluster_are_integrals_over_the_window(sick: str) -> None:
    figures = row(inspected(sick, detail="full"))
    # 8 + 4 GPU-hours, n2's two GPUs half an hour busy and half free, n3's two busy for 40 minutes
    hours = 8 + 4 + 2 + 4 / 3
    assert figures.model_dump(exclude={"jobs", "not_checked"}) == {
        "window_h": 1,
        "step_s": 60,
        "host_count": 4,
        "job_count": 4,
        "gpu_hours": pytest.approx(hours, abs=0.1),
        "wasted_gpu_hours": 4,
        "free_gpu_hours": pytest.approx(1, abs=0.05),
        "idle_gpu_hours": pytest.approx(5, abs=0.05),
        "activity_percent": pytest.approx(90 * (hours - 5) / hours, abs=1),
        "activity_by": "SM activity",
        # the sick GPU's bits take the place of the cap for 20 minutes
        "power_capped_percent": pytest.approx(100 * (hours - 5 - 1 / 3) / hours, abs=2),
    }
    assert figures.not_checked is None
    busy_row = {
        "idle_gpu_hours": 0,
        "activity_percent": 90,
        "tensor_percent": 40,
        "memory_used_gib": 58.6,
        "power_w": 650,
    }
    idle_row = {"activity_percent": 0, "tensor_percent": 0, "memory_used_gib": 58.6, "power_w": 80}
    about = pytest.approx
    assert [job.model_dump() for job in figures.jobs or ()] == [
        {"job": "job 2", "gpu_count": 4, "gpu_hours": 4, "idle_gpu_hours": 4, **idle_row},
        {"job": "job 1", "gpu_count": 8, "gpu_hours": 8, **busy_row},
        {"job": "job 4", "gpu_count": 2, "gpu_hours": about(4 / 3, abs=0.05), **busy_row},
        {"job": "job 3", "gpu_count": 2, "gpu_hours": about(1, abs=0.05), **busy_row},
        {
            "job": "no job",
            "gpu_count": 2,
            "gpu_hours": about(1, abs=0.05),
            "idle_gpu_hours": about(1, abs=0.05),
            **idle_row,
        },
    ]


def test_a_short_window_sees_what_stands_since_before_it_and_calls_it_no_event(sick: str) -> None:
    told = found(inspected(sick, "5m", "full"))
    assert told["xid-events"] == "Xid 94 (contained memory error) stands on n0 GPU 7 since before the window"
    assert told.keys() - {"xid-events"} == {
        "hardware-slowdown",
        "gpus-idle-in-job",
        "gpu-apart-from-its-job",
        "memory-held-without-job",
        "pcie-replays",
        "row-remapping",
    }


def test_a_healthy_cluster_of_pods_has_nothing_to_report(tmp_path: Path) -> None:
    jobs = [Gpu(f"n{host}", index, busy(0.9), pod("ml", f"train-{host}")) for host in range(2) for index in range(4)]
    idle = {"namespace": "gpu-operator", "pod": "gpu-metrics-x1", "container": "exporter"}
    free = [Gpu("n2", index, busy(0.0, memory=500), idle) for index in range(4)]
    backfill(tmp_path, history([*jobs, *free], time.time(), HOUR, EVERY))
    with prometheus(tmp_path) as url:
        answer = inspected(url)
    assert answer.summary == "Looked at 12 GPUs on 3 hosts over 1 h: nothing to report."
    assert [(job.job, job.gpu_count) for job in row(answer).jobs or ()] == [("ml/train", 8), ("no job", 4)]
    assert (row(answer).wasted_gpu_hours, row(answer).free_gpu_hours) == (0, 4)


def test_what_the_exporter_does_not_serve_is_not_called_healthy(tmp_path: Path) -> None:
    few = {"DCGM_FI_DEV_GPU_UTIL": 97, "DCGM_FI_DEV_FB_USED": 60_000}
    backfill(tmp_path, history([Gpu("n0", index, few) for index in range(2)], time.time(), HOUR, EVERY))
    with prometheus(tmp_path) as url:
        answer = inspected(url)
    assert answer.summary == "Looked at 2 GPUs on 1 host over 1 h: nothing to report (12 checks could not be made)."
    assert row(answer).activity_by == "time a kernel ran"
    assert row(answer).wasted_gpu_hours is None
    assert (row(answer).not_checked or [])[0] == NotChecked(
        findings=["memory-held-without-job"], needs="a job label (dcgm-exporter: Kubernetes or HPC job mapping)"
    )
    assert len(answer.json_text().encode()) <= 2_400


def test_counters_that_fell_back_are_estimated_and_said_to_have_fallen(tmp_path: Path) -> None:
    restarted = {"DCGM_FI_DEV_PCIE_REPLAY_COUNTER": lambda at: 500 if at < -1800 else 0}
    gpus = [Gpu("n0", 0, busy(0.9, **restarted), slurm(1)), Gpu("n0", 1, busy(0.9), slurm(1))]
    backfill(tmp_path, history(gpus, time.time(), HOUR, EVERY))
    with prometheus(tmp_path) as url:
        answer = inspected(url)
    assert found(answer) == {"counters-fell-back": "counters of 1 GPU on 1 host fell back: the driver started anew"}


def test_amds_exporter_is_read_behind_its_prefix(tmp_path: Path) -> None:
    def one(index: int, activity: float) -> Gpu:
        levels = {"gpu_gfx_activity": activity, "gpu_used_vram": 100_000, "gpu_package_power": 700}
        labels = {"gpu_id": str(index), "serial_number": f"S{index}", "job_id": "9"}
        return Gpu("m0", index, {f"amd_{name}": level for name, level in levels.items()}, labels)

    backfill(tmp_path, history([one(0, 95), one(1, 0)], time.time(), HOUR, EVERY))
    with prometheus(tmp_path) as url:
        answer = inspected(url)
    assert found(answer) == {"gpus-idle-in-job": "1 GPU in 1 job stood idle throughout: 1.0 GPU-hours of 2.0"}
    assert row(answer).activity_by == "engine activity"
    assert answer.sources == ["repo:rocm/device-metrics-exporter@afd0fe81:docs/configuration/metricslist.md"]


def test_a_live_exporter_is_scraped_and_its_death_is_seen(tmp_path: Path) -> None:
    gpus = [Gpu("n0", index, busy(0.9), slurm(1)) for index in range(2)]
    dead = Gpu("n1", 0, busy(0.9), slurm(2))
    served = {"n1": True}

    def dying() -> str | None:
        return scrape([dead]) if served["n1"] else None

    with (
        exporter(lambda: scrape(gpus)) as first,
        exporter(dying) as second,
        prometheus(tmp_path, (first, second)) as url,
    ):
        until(lambda: value(url, "count(DCGM_FI_PROF_SM_ACTIVE)") == 3, "the scrape")
        answer = inspected(url, "1m")
        served["n1"] = False
        until(lambda: value(url, f'up{{instance="{second}"}}') == 0, "the failed scrape")
        with Prometheus(parsed(url)) as client:
            up = {v.labels["instance"]: v.value for v in client.instant("up", client.now())}
    assert (answer.gpu_count, row(answer).host_count, row(answer).job_count) == (3, 2, 2)
    assert up == {first: 1.0, second: 0.0}


def test_a_prometheus_without_gpus_cannot_answer(tmp_path: Path) -> None:
    with prometheus(tmp_path) as url, pytest.raises(CannotAnswer) as caught:
        inspected(url)
    assert caught.value.message == f"{url} holds no metrics of GPUs in that window"
    assert caught.value.needs == [
        "an exporter that it scrapes: NVIDIA's dcgm-exporter (DCGM_FI_DEV_GPU_UTIL) or AMD's device-metrics-exporter"
    ]


def test_prometheus_own_words_are_given_where_it_refuses_a_query(sick: str) -> None:
    with (
        Prometheus(parsed(sick)) as client,
        pytest.raises(CannotAnswer, match=r"could not answer a query \(HTTP 400\): .*parse error"),
    ):
        client.instant("up{", 0)


def test_the_command_line_asks_a_prometheus(sick: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect-gpus", "--prometheus", sick, "--window", "1h", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["gpu_count"] == 16
    assert data["findings"][0]["severity"] == "error"
    assert len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()) <= 2_400

"""The tool `inspect_gpus`, on recorded GPUs."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pynvml
import pytest
from advisor_mcp.tools.inspect_gpus import TOOL
from tests.gpus.fake_driver import FakeDriver, installed

from advisor_mcp.errors import UsageError
from advisor_mcp.gpus import DeviceReading, DriverReading, ProcessReading
from advisor_mcp.gpus.recorded import Recorded, read_recording
from advisor_mcp.gpus.report import (
    READ_BY,
    GpuModel,
    GpuRow,
    InspectedGpus,
    MigRow,
    NotAvailable,
    ProcessRow,
    inspect,
)

CASES = Path(__file__).parents[1] / "cases" / "gpus"
NAMES = sorted(path.stem for path in CASES.glob("*.json"))
MADE = "written by hand from NVML's documented fields, not read from a device"
RECORDED = f"read from a recording, not from this machine ({MADE})"
KNOWN = {"NVIDIA H100 80GB HBM3": "h100-sxm"}


def of(name: str, **arguments: Any) -> InspectedGpus:
    return inspect(read_recording(CASES / f"{name}.json"), KNOWN.get, **arguments)


def source(*readings: DeviceReading) -> Recorded:
    return Recorded(readings, DriverReading(driver_version="580.95.05", cuda_version=13000))


def test_an_idle_gpu_is_told_whole() -> None:
    assert of("h100-idle") == InspectedGpus(
        summary="1 x NVIDIA H100 80GB HBM3 (h100-sxm): no kernel running, 0 of 79.65 GiB in use; "
        "nothing wrong in what they report.",
        gpu_count=1,
        driver_version="580.95.05",
        cuda_version="13.0",
        models=[
            GpuModel(
                gpus="0",
                name="NVIDIA H100 80GB HBM3",
                gpu_id="h100-sxm",
                architecture="Hopper",
                compute_capability="9.0",
                memory_total_gib=79.65,
                memory_total_bytes=85_520_809_984,
                power_limit_w=700,
                sm_clock_max_mhz=1980,
                ecc_enabled=True,
                mig_enabled=False,
            )
        ],
        gpus=[
            GpuRow(
                index=0,
                utilization_percent=0,
                memory_used_gib=0.0,
                memory_free_gib=79.11,
                power_w=71,
                temperature_c=31,
                sm_clock_mhz=345,
                throttled_by=[],
            )
        ],
        assumptions=[RECORDED],
        sources=["doc:nvml-api"],
        next_measurement="read again under load: clocks, power, PCIe generation and throttling mean little when idle",
    )


def test_two_faults_among_eight_busy_gpus_are_found_and_the_power_cap_is_not_one() -> None:
    answer = of("h100x8-busy-two-faults")
    assert answer.warnings == [
        "GPU 5: hardware thermal slowdown at 89 °C at least halves the clocks; check cooling and airflow",
        "GPU 2: PCIe runs on 8 of 16 lanes; reseat it or check slot and riser (some boards wire fewer)",
    ]
    assert [row.throttled_by for row in answer.gpus or []] == [
        ["hw_slowdown", "hw_thermal_slowdown"] if index == 5 else [] for index in range(8)
    ]
    assert [model.gpus for model in answer.models or []] == ["0-7"]
    assert answer.summary == (
        "8 x NVIDIA H100 80GB HBM3 (h100-sxm): 8 of 8 running kernels 97 to 100 % of the time, "
        "602.72 of 637.18 GiB in use; 2 warnings."
    )


def test_full_detail_gives_exact_bytes_clocks_and_counters() -> None:
    answer = of("h100x8-busy-two-faults", indices=[5], detail="full")
    assert answer.gpus == [
        GpuRow(
            index=5,
            uuid="GPU-50a1b2c3",
            pci_bus_id="00000000:C3:00.0",
            utilization_percent=100,
            memory_utilization_percent=31,
            memory_used_gib=75.34,
            memory_used_bytes=77_146 * 2**20,
            memory_free_gib=3.77,
            memory_free_bytes=(81_559 - 551 - 77_146) * 2**20,
            memory_reserved_gib=0.54,
            memory_reserved_bytes=551 * 2**20,
            power_w=403,
            temperature_c=89,
            sm_clock_mhz=840,
            memory_clock_mhz=2619,
            performance_state="P0",
            throttled_by=["hw_slowdown", "hw_thermal_slowdown"],
            clock_events=["hw_slowdown", "hw_thermal_slowdown"],
            pcie_gen=5,
            pcie_width=16,
            ecc_volatile_corrected=0,
            ecc_volatile_uncorrected=0,
            ecc_aggregate_corrected=0,
            ecc_aggregate_uncorrected=0,
            remapped_rows_corrected=0,
            remapped_rows_uncorrected=0,
            row_remap_pending=False,
            row_remap_failed=False,
        )
    ]
    memory = 77_142 * 2**20
    name = "python3.11"
    assert answer.processes == [
        ProcessRow(gpu=5, pid=41205, name=name, kind="compute", memory_gib=75.33, memory_bytes=memory)
    ]
    assert (answer.gpu_count, answer.omitted) == (8, None)


def test_a_desktop_card_says_once_what_it_does_not_have_and_who_holds_its_memory() -> None:
    answer = of("rtx3090-desktop")
    assert answer.not_available == [
        NotAvailable(
            gpus="0", reason="not supported by this GPU as it is set up", fields=["ecc_enabled", "mig_enabled"]
        )
    ]
    assert answer.processes == [
        ProcessRow(gpu=0, pid=90317, name="python3", kind="compute", memory_gib=11.0),
        ProcessRow(gpu=0, pid=1422, name="Xorg", kind="graphics", memory_gib=0.21),
    ]
    assert answer.warnings == ["GPU 0: processes hold 11 GiB while utilisation is 0 %; end them if nobody needs them"]
    assert [model.gpu_id for model in answer.models or []] == [None]


def test_a_partitioned_gpu_lists_its_instances_and_has_no_utilisation() -> None:
    answer = of("a100-mig")
    assert answer.mig_instances == [
        MigRow(gpu=0, index=0, name="NVIDIA A100-SXM4-40GB MIG 3g.20gb", memory_total_gib=19.62, memory_used_gib=18.58),
        MigRow(gpu=0, index=1, name="NVIDIA A100-SXM4-40GB MIG 1g.5gb", memory_total_gib=4.75, memory_used_gib=0.0),
    ]
    reason = "NVML gives no utilisation for a GPU in MIG mode"
    assert answer.not_available == [NotAvailable(gpus="0", reason=reason, fields=["utilization_percent"])]
    assert "utilisation not reported" in answer.summary


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("detail", ["brief", "full"])
def test_every_recorded_answer_fits_its_budget_in_both_channels(name: str, detail: Any) -> None:
    answer = of(name, detail=detail)
    longest = max(len(answer.json_text().encode()), len(answer.text().encode()))
    assert longest <= TOOL.limit({"detail": detail})


@pytest.mark.parametrize("name", NAMES)
def test_every_null_figure_of_a_full_answer_has_its_reason(name: str) -> None:
    answer = of(name, detail="full")
    told = {field for row in answer.not_available or [] for field in row.fields}
    rows = [row.model_dump() for row in [*(answer.models or []), *(answer.gpus or [])]]
    null = {field for row in rows for field, value in row.items() if value is None}
    assert null - {"gpu_id", "recovery_action"} == told


def test_gpus_with_faults_keep_their_rows_when_not_all_fit() -> None:
    faulty = (11, 14)
    readings = [
        DeviceReading(
            index=index,
            name="NVIDIA L4",
            utilization_percent=90,
            pcie_width=8 if index in faulty else 16,
            pcie_width_max=16,
        )
        for index in range(16)
    ]
    answer = inspect(source(*readings), KNOWN.get)
    assert [row.index for row in answer.gpus or []] == [0, 1, 2, 3, 4, 5, 11, 14]
    assert answer.omitted == ["gpus: 8 more, with detail=full"]


def test_a_brief_answer_sheds_rows_until_it_fits() -> None:
    whole = of("h100x8-busy-two-faults")
    smaller = of("h100x8-busy-two-faults", brief_bytes=len(whole.json_text().encode()) - 1)
    assert [row.index for row in smaller.gpus or []] == [0, 1, 2, 5]
    assert smaller.omitted == ["gpus: 4 more, with detail=full", "processes: 8 more, with detail=full"]
    assert smaller.warnings == whole.warnings


def test_gpus_of_two_kinds_are_two_models() -> None:
    pair = source(
        DeviceReading(index=0, name="NVIDIA L4"),
        DeviceReading(index=1, name="NVIDIA T4"),
        DeviceReading(index=2, name="NVIDIA L4"),
    )
    answer = inspect(pair, KNOWN.get)
    assert [(model.gpus, model.name) for model in answer.models or []] == [("0, 2", "NVIDIA L4"), ("1", "NVIDIA T4")]
    assert answer.summary.startswith("2 x NVIDIA L4, 1 x NVIDIA T4: ")


def test_a_gpu_that_does_not_answer_is_counted_and_reported() -> None:
    lost = source(DeviceReading(index=0, failure="the GPU must be reset before it answers"))
    answer = inspect(lost, KNOWN.get)
    assert (answer.gpu_count, answer.models, answer.gpus) == (1, [], [GpuRow(index=0)])
    sentence = "GPU 0: no reading, the GPU must be reset before it answers; see the kernel log for its Xid"
    assert answer.warnings == [sentence]


def test_an_index_that_is_not_here_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError) as refused:
        of("h100x8-busy-two-faults", indices=[2, 9, 11])
    message = "there is no GPU 9, 11 here; the indices are 0-7: name some of these or leave indices out"
    assert refused.value.message == message


def test_indices_keep_those_gpus_once_and_in_order() -> None:
    answer = of("h100x8-busy-two-faults", indices=[5, 2, 5])
    assert [row.index for row in answer.gpus or []] == [2, 5]
    assert answer.gpu_count == 8


def test_a_machine_without_a_driver_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADVISOR_MCP_GPUS", raising=False)
    with installed(FakeDriver(init=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)):
        answer = TOOL.call({"indices": [3]})
    assert answer == InspectedGpus(
        summary="There is no GPU to read: no NVIDIA driver on this machine (its library NVML was not found).",
        gpu_count=0,
        assumptions=["one reading at the time of the call"],
        sources=["doc:nvml-api"],
        next_measurement="run this on the machine that has the GPUs, in a container started with access to them",
    )


def test_a_driver_that_shows_no_gpu_is_an_answer() -> None:
    answer = inspect(source(), KNOWN.get)
    assert answer.summary == "There is no GPU to read: the NVIDIA driver 580.95.05 shows this process none."


def test_the_tool_reads_this_machine_and_names_the_gpu_as_the_other_tools_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADVISOR_MCP_GPUS", raising=False)
    with installed(FakeDriver()) as driver:
        answer = TOOL.call({})
    assert isinstance(answer, InspectedGpus)
    assert [(model.name, model.gpu_id) for model in answer.models or []] == [("NVIDIA H100 80GB HBM3", "h100-sxm")]
    assert answer.assumptions == ["one reading at the time of the call"]
    assert driver.calls[-1] == "nvmlShutdown"


def test_the_tool_reads_the_recording_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_MCP_GPUS", str(CASES / "rtx3090-desktop.json"))
    assert TOOL.call({}).assumptions == [RECORDED]


def test_nothing_private_of_a_process_reaches_the_answer() -> None:
    with installed(FakeDriver()):
        text = json.dumps(TOOL.call({"detail": "full"}).data())
    assert "python3.11" in text
    assert "secret-project" not in text


def test_a_process_without_a_known_memory_is_listed_without_it() -> None:
    one = DeviceReading(index=0, name="NVIDIA L4", processes=(ProcessReading(pid=5, name="app.exe"),))
    assert inspect(source(one), KNOWN.get).processes == [ProcessRow(gpu=0, pid=5, name="app.exe", kind="compute")]


def test_every_figure_of_a_full_answer_names_the_nvml_call_behind_it() -> None:
    derivation = of("h100-idle", detail="full").derivation or []
    assert [(line.figure, line.formula) for line in derivation] == list(READ_BY)
    patterns = [part for figure, _ in READ_BY for part in re.split(", ", figure)]
    figures = (GpuModel.model_fields.keys() | GpuRow.model_fields.keys()) - {"gpus", "gpu_id", "index"}
    assert [name for name in sorted(figures) if not any(fnmatch(name, pattern) for pattern in patterns)] == []
    assert [call for _, call in READ_BY if not callable(getattr(pynvml, call))] == []


def test_utilisation_is_described_by_what_it_measures() -> None:
    described = str(GpuRow.model_fields["utilization_percent"].description)
    assert "in which a kernel ran" in described
    assert "one busy thread gives 100" in described


def test_the_declaration_is_read_only_and_has_no_positional_argument() -> None:
    assert (TOOL.name, TOOL.title, TOOL.toolset) == ("inspect_gpus", "Inspect GPUs", "performance")
    assert (TOOL.read_only, TOOL.positional) == (True, ())
    assert set(TOOL.input_schema["properties"]) == {"indices", "prometheus", "window", "detail"}


@pytest.mark.parametrize("given", [{"indices": []}, {"indices": [-1]}, {"indices": ["first"]}, {"indices": 0}])
def test_indices_that_are_no_indices_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        TOOL.call(given)

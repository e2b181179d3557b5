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
from tests.gpus.fake_amdsmi import MI300X
from tests.gpus.fake_driver import FakeDriver, installed

from advisor_mcp import catalogue, cli
from advisor_mcp.declaration import Silent
from advisor_mcp.errors import Cancelled, UsageError
from advisor_mcp.findings import FindingRow
from advisor_mcp.gpus import DeviceReading, DriverReading, ProcessReading
from advisor_mcp.gpus.devices import LinkReading, NoDevices
from advisor_mcp.gpus.host import TOOLS, Host
from advisor_mcp.gpus.recorded import Recorded, read_recording
from advisor_mcp.gpus.report import inspect
from advisor_mcp.gpus.rows import (
    GpuModel,
    GpuRow,
    HostRow,
    InspectedGpus,
    LinkRow,
    MigRow,
    NotAvailable,
    ProcessRow,
    XidRow,
)
from advisor_mcp.gpus.sources import READ_BY, READ_BY_AMD

CASES = Path(__file__).parents[1] / "cases" / "gpus"
NAMES = sorted(path.stem for path in CASES.glob("*.json"))
MADE = "written by hand from NVML's documented fields, not read from a device"
RECORDED = f"read from a recording, not from this machine ({MADE})"
NOT_RECORDED = NotAvailable(gpus="0", reason="not recorded", fields=["sm_active_percent"])
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
        not_available=[NOT_RECORDED],
        assumptions=[RECORDED],
        sources=["doc:nvml-api"],
        next_measurement="read again under load: clocks, power, PCIe generation and throttling mean little when idle",
    )


def test_two_faults_among_eight_busy_gpus_are_found_and_the_power_cap_is_a_note() -> None:
    answer = of("h100x8-busy-two-faults")
    assert [(found.name, found.severity, found.message) for found in answer.findings] == [
        (
            "hw-thermal-slowdown",
            "error",
            "GPU 5: hardware thermal slowdown at 89 °C at least halves the clocks",
        ),
        ("link-below-capability", "warning", "GPU 2: PCIe runs on 8 of 16 lanes under load"),
        # 840 MHz against a median of 1747.5
        (
            "unlike-siblings",
            "warning",
            "GPU 5: the SM clock is 51.9 % below the median of the 8 busy GPUs of its kind",
        ),
        (
            "power-cap",
            "info",
            "GPUs 0-4, 6-7: clocks held down by the power limit of 700 W, as expected at full load",
        ),
    ]
    assert answer.warnings == []
    assert [model.gpus for model in answer.models or []] == ["0-7"]
    assert answer.summary == (
        "8 x NVIDIA H100 80GB HBM3 (h100-sxm): 8 of 8 running kernels 97 to 100 % of the time, "
        "602.72 of 637.18 GiB in use; 3 findings, 1 note."
    )


def test_a_finding_says_what_it_rests_on_and_what_to_do() -> None:
    [found] = of("rtx3090-desktop").findings
    assert found == FindingRow(
        name="memory-held-idle",
        severity="warning",
        message="GPU 0: processes hold 11 GiB while utilisation is 0 %",
        measured=11,
        unit="GiB",
        where="GPU 0",
        change="End the processes if nobody needs them.",
        threshold="Any memory at 0 %: the sample period is at most 1 s (nvml.h, nvmlUtilization_t), so look twice.",
        next_measurement="The same a minute later: `advisor-mcp inspect-gpus --watch`",
    )
    [full] = of("rtx3090-desktop", detail="full").findings
    assert full.formula == (
        "Sum of the memory of compute processes while utilisation is 0 %; a desktop's graphics processes do not count."
    )
    assert len(full.could_also_be or []) == 2


def test_sm_activity_stands_beside_utilisation() -> None:
    answer = of("h100x16-busy", indices=[11])
    assert [(row.utilization_percent, row.sm_active_percent) for row in answer.gpus or []] == [(100, 21.5)]
    assert "100 % of the time with 22 % of the SMs busy" in answer.summary
    assert [found.name for found in answer.findings] == ["busy-but-idle-sms", "power-cap"]
    assert answer.next_measurement == "a trace says which kernels keep the SMs busy, or idle: diagnose_trace"


def test_an_xid_is_told_with_nvidias_action_and_its_source() -> None:
    answer = of("h100x16-busy", indices=[3], detail="full")
    assert answer.xids == [
        XidRow(gpu=3, code=31, meaning="GPU memory page fault", action="RESTART_APP", count=2, last_minutes_ago=90)
    ]
    assert answer.sources == ["doc:nvml-api", "doc:nvidia-xid-catalog"]


def test_figures_that_all_gpus_share_are_given_once() -> None:
    answer = of("h100x16-busy", indices=[0, 1], detail="full")
    assert (answer.common or {})["links_up"] == 18
    assert [(row.links_up, row.power_w) for row in answer.gpus or []] == [(None, 688), (None, 689)]


def test_links_are_listed_where_they_are_down_or_count_errors() -> None:
    links = (
        LinkReading(link=0, active=True, errors={"replay": 0}),
        LinkReading(link=1, active=True, errors={"replay": 0, "crc": 9}, new_errors={"replay": 0, "crc": 2}),
        LinkReading(link=2, active=False),
    )
    answer = inspect(source(DeviceReading(index=0, name="NVIDIA L4", links=links)), KNOWN.get, detail="full")
    assert answer.links == [
        LinkRow(gpu=0, link=1, active=True, errors={"crc": 9}, new_errors={"crc": 2}),
        LinkRow(gpu=0, link=2, active=False),
    ]


def test_amd_gpus_are_told_with_their_own_calls_and_driver() -> None:
    answer = of("mi300x-busy", indices=[0], detail="full")
    assert (answer.amdgpu_version, answer.driver_version) == ("6.14.14", None)
    assert [(model.vendor, model.compute_capability) for model in answer.models or []] == [("amd", "gfx942")]
    assert {line.source for line in answer.derivation or []} == {"doc:amd-smi-api"}
    assert answer.next_measurement == (
        "utilisation only says that a kernel ran: measure how busy the compute units are (rocprofiler-compute)"
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
        NOT_RECORDED,
        NotAvailable(
            gpus="0", reason="not supported by this GPU as it is set up", fields=["ecc_enabled", "mig_enabled"]
        ),
    ]
    assert answer.processes == [
        ProcessRow(gpu=0, pid=90317, name="python3", kind="compute", memory_gib=11.0),
        ProcessRow(gpu=0, pid=1422, name="Xorg", kind="graphics", memory_gib=0.21),
    ]
    assert [model.gpu_id for model in answer.models or []] == [None]


def test_a_partitioned_gpu_lists_its_instances_and_has_no_utilisation() -> None:
    answer = of("a100-mig")
    assert answer.mig_instances == [
        MigRow(gpu=0, index=0, name="NVIDIA A100-SXM4-40GB MIG 3g.20gb", memory_total_gib=19.62, memory_used_gib=18.58),
        MigRow(gpu=0, index=1, name="NVIDIA A100-SXM4-40GB MIG 1g.5gb", memory_total_gib=4.75, memory_used_gib=0.0),
    ]
    reason = "NVML gives no utilisation for a GPU in MIG mode"
    assert answer.not_available == [
        NotAvailable(gpus="0", reason=reason, fields=["utilization_percent"]),
        NOT_RECORDED,
    ]
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
    null = {field for row in rows for field, value in row.items() if value is None} - set(answer.common or {})
    not_figures = {"gpu_id", "recovery_action", "xids", "processes", "mig_instances"}
    # AMD SMI tells neither version nor speed of the links that it lists
    of_links = {"link_version", "link_speed_mbps"} if name == "mi300x-busy" else set()
    assert null - not_figures - of_links == told - not_figures


def test_gpus_with_findings_keep_their_rows_when_not_all_fit() -> None:
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
    assert [found.where for found in answer.findings] == ["GPUs 11, 14"]
    assert answer.omitted == ["gpus: 8 more, with detail=full"]


def test_a_brief_answer_sheds_rows_of_healthy_gpus_and_then_what_explains_the_findings() -> None:
    whole = of("h100x8-busy-two-faults", limit=100_000)
    assert [row.index for row in whole.gpus or []] == list(range(8))
    assert all(found.threshold for found in whole.findings)
    fitting = of("h100x8-busy-two-faults")
    assert [row.index for row in fitting.gpus or []] == [2, 5]
    assert [found.threshold for found in fitting.findings] == [None] * 4
    assert fitting.omitted == ["gpus: 6 more, with detail=full", "processes: 8 more, with detail=full"]


def test_the_smallest_answer_keeps_the_gravest_finding() -> None:
    answer = of("h100x8-busy-two-faults", limit=1)
    assert [row.index for row in answer.gpus or []] == [5]
    assert [found.name for found in answer.findings] == ["hw-thermal-slowdown"]
    assert "findings: 3 more, with detail=full" in (answer.omitted or [])


def test_a_full_answer_that_does_not_fit_gives_up_the_calls_and_then_rows() -> None:
    answer = of("h100x16-busy", detail="full")
    assert answer.derivation is None
    assert {3, 11} <= {row.index for row in answer.gpus or []}
    assert answer.omitted == [
        f"gpus: {16 - len(answer.gpus or [])} more, ask for them with indices",
        "derivation: ask for one GPU with indices",
    ]


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
    sentence = "GPU 0: no reading, the GPU must be reset before it answers"
    assert [found.message for found in answer.findings] == [sentence]


def test_an_index_that_is_not_here_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError) as refused:
        of("h100x8-busy-two-faults", indices=[2, 9, 11])
    message = "there is no GPU 9, 11 here; the indices are 0-7: name some of these or leave indices out"
    assert refused.value.message == message


def test_indices_keep_those_gpus_once_and_in_order() -> None:
    answer = of("h100x8-busy-two-faults", indices=[5, 2, 5])
    assert [row.index for row in answer.gpus or []] == [2, 5]
    assert answer.gpu_count == 8


ELSEWHERE = "run this on the machine that has the GPUs, in a container started with access to them"
NO_DRIVER = "no NVIDIA driver on this machine (its library NVML was not found)"
CPU = Host(kind="cpu", chip="AMD EPYC 9654 96-Core Processor", memory_bytes=2**39)


def test_a_machine_without_a_driver_is_an_answer_that_names_it() -> None:
    assert inspect(NoDevices(NO_DRIVER), KNOWN.get, [3], host=lambda: CPU) == InspectedGpus(
        summary=f"There is no GPU to read: {NO_DRIVER}. The processor is AMD EPYC 9654 96-Core Processor with 512 GiB "
        "of memory.",
        gpu_count=0,
        host=HostRow(kind="cpu", chip="AMD EPYC 9654 96-Core Processor", memory_gib=512),
        assumptions=["one reading at the time of the call"],
        sources=["doc:nvml-api"],
        next_measurement=ELSEWHERE,
    )


def test_apple_silicon_is_named_with_the_tool_that_reads_it() -> None:
    apple = Host(kind="apple", chip="Apple M4 Max", memory_bytes=2**37)
    answer = inspect(NoDevices(NO_DRIVER), KNOWN.get, host=lambda: apple)
    assert answer.summary == (
        f"There is no GPU to read: {NO_DRIVER}. This is Apple silicon: Apple M4 Max with 128 GiB of memory, which "
        "processor and GPU share."
    )
    assert answer.next_measurement == TOOLS["apple"]


@pytest.mark.parametrize("maker", ["NVIDIA", "AMD", "Intel"])
def test_a_gpu_on_the_bus_that_no_driver_answers_for_is_named(maker: str) -> None:
    host = Host(kind="cpu", chip="Xeon", pci_gpus=(maker,))
    answer = inspect(NoDevices(NO_DRIVER), KNOWN.get, host=lambda: host)
    assert answer.host == HostRow(kind="cpu", chip="Xeon", gpus_on_pci=[maker])
    assert answer.next_measurement == TOOLS[maker]


def test_the_tool_says_so_where_there_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADVISOR_MCP_GPUS", raising=False)
    with installed(FakeDriver(init=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)):
        answer = TOOL.call({"indices": [3]})
    assert answer.summary.startswith(f"There is no GPU to read: {NO_DRIVER}. ")


def test_a_driver_that_shows_no_gpu_is_an_answer() -> None:
    answer = inspect(source(), KNOWN.get, host=lambda: CPU)
    assert answer.summary.startswith("There is no GPU to read: the NVIDIA driver 580.95.05 shows this process none. ")


def test_the_tool_reads_this_machine_and_names_the_gpu_as_the_other_tools_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADVISOR_MCP_GPUS", raising=False)
    with installed(FakeDriver()) as driver:
        answer = TOOL.call({})
    assert isinstance(answer, InspectedGpus)
    assert [(model.name, model.gpu_id) for model in answer.models or []] == [("NVIDIA H100 80GB HBM3", "h100-sxm")]
    assert answer.assumptions == ["one reading at the time of the call"]
    assert (answer.sample_s, [row.sm_active_percent for row in answer.gpus or []]) == (1.5, [91.5])
    assert driver.calls[-1] == "nvmlShutdown"


def test_the_sample_reports_progress_and_stops_when_the_caller_withdrew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADVISOR_MCP_GPUS", raising=False)
    told = []

    class Withdrawing(Silent):
        def report(self, done: float, total: float | None = None, message: str | None = None) -> None:
            told.append((done, total, message))
            if len(told) == 2:
                self.cancel()
            super().report(done, total, message)

    with installed(FakeDriver()) as driver, pytest.raises(Cancelled):
        TOOL.call({"sample_s": 5}, Withdrawing())
    assert told == [(0.5, 5.0, "counting for 5 s"), (1.0, 5.0, "counting for 5 s")]
    assert len(driver.freed) == len(driver.samples) == 1
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
    figures = (GpuModel.model_fields.keys() | GpuRow.model_fields.keys()) - {"gpus", "vendor", "gpu_id", "index"}
    assert [name for name in sorted(figures) if not any(fnmatch(name, pattern) for pattern in patterns)] == []
    assert [call for _, call in READ_BY if not callable(getattr(pynvml, call))] == []


def test_utilisation_is_described_by_what_it_measures() -> None:
    described = str(GpuRow.model_fields["utilization_percent"].description)
    assert "in which a kernel ran" in described
    assert "one busy thread gives 100" in described


def test_the_declaration_is_read_only_and_has_no_positional_argument() -> None:
    assert (TOOL.name, TOOL.title, TOOL.toolset) == ("inspect_gpus", "Inspect GPUs", "performance")
    assert (TOOL.read_only, TOOL.positional) == (True, ())
    assert set(TOOL.input_schema["properties"]) == {"indices", "sample_s", "prometheus", "window", "detail"}


def test_every_amd_figure_names_a_call_of_the_stand_in() -> None:
    assert {call for _, call in READ_BY_AMD} <= {*MI300X}


def test_what_a_model_sees_of_the_tool_is_short() -> None:
    seen = {"name": TOOL.name, "description": TOOL.description, "input_schema": TOOL.input_schema}
    assert len(json.dumps(seen, separators=(",", ":")).encode()) <= 1_800


@pytest.mark.parametrize(("case", "code"), [("h100-idle", 0), ("mi300x-busy", 0), ("rtx3090-desktop", 1)])
def test_the_command_ends_with_1_for_what_is_wrong_and_with_0_for_notes(
    case: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ADVISOR_MCP_GPUS", str(CASES / f"{case}.json"))
    assert cli.main(["inspect-gpus", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["gpu_count"] >= 1
    assert "watch" not in catalogue.build().tools["inspect_gpus"].input_schema["properties"]


@pytest.mark.parametrize(
    "given",
    [
        {"indices": []},
        {"indices": [-1]},
        {"indices": ["first"]},
        {"indices": 0},
        {"sample_s": 0.1},
        {"sample_s": 61},
        {"sample_s": "nan"},
    ],
)
def test_arguments_that_cannot_be_used_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        TOOL.call(given)

"""The answer about a fleet: what it says, and that it stays short however large the fleet is."""

from __future__ import annotations

import pytest
from tests.gpus.fleet.fleets import EVERYTHING, fleet, gpu, track

from advisor_mcp import access
from advisor_mcp.catalogue import default_catalogue
from advisor_mcp.errors import UsageError
from advisor_mcp.gpus.fleet.evidence import Event, Exporter, Fleet
from advisor_mcp.gpus.fleet.report import inspected
from advisor_mcp.gpus.report import InspectedGpus
from advisor_mcp.knowledge import find


def huge() -> Fleet:
    """2,000 GPUs of 250 jobs with long names on 250 hosts, and something of every kind wrong."""
    tracks = []
    for host in range(250):
        job = f"research-group-{host:03d}/a-training-run-with-a-rather-long-name-{host:03d}"
        place = f"gpu-node-{host:04d}.cluster.example"
        level = (0.0, 0.2, 0.9, 0.95, 0.9)[host % 5]
        for index in range(8):
            tensor = 0.01 if host % 5 == 3 else 0.4
            clock = 1200.0 if (host % 5 == 4 and index == 7) else 1755.0
            util = 1.0 if host % 10 == 1 else None
            bits = dict.fromkeys(range(60), 0x68) if host % 50 == 2 else {}
            more = {"clock": clock, "tensor_active": tensor}
            tracks.append(track(index, level, job, host=place, util=util, clock_events=bits, **more))
        tracks.append(track(8, 0.0, None, host=place))
    units = sorted({each.unit for each in tracks}, key=str)
    return fleet(
        *tracks,
        growth={key: dict.fromkeys(units, 1e6) for key in ("uncorrected_errors", "pcie_replays", "nvlink_crc_errors")},
        highest={"remap_failed": dict.fromkeys(units[:50], 1.0), "remap_pending": dict.fromkeys(units, 1.0)},
        events=tuple(Event(unit, code, True, ("a/b",)) for unit in units for code in (13, 31, 48, 79, 94, 95, 119)),
        exporters=tuple(Exporter(f"10.0.0.{at}:9400", ("n",), 8, 1200, 1.0, up=False) for at in range(250)),
        restarted=frozenset(units),
        present=EVERYTHING - {"hw_thermal_time"},
        sources=frozenset({"repo:nvidia/dcgm-exporter@d5e5f510:etc/default-counters.csv"}),
    )


def size(answer: InspectedGpus) -> int:
    return max(len(answer.json_text().encode()), len(answer.text().encode()))


def test_a_brief_answer_about_2000_sick_gpus_fits_and_names_what_it_leaves_out() -> None:
    answer = inspected(huge())
    assert size(answer) <= 2_400
    assert (answer.fleet.host_count, answer.gpu_count) == (250, 2250) if answer.fleet else False
    told = [finding.name for finding in answer.findings]
    assert told[:1] == ["hardware-slowdown"]
    left = next(line for line in answer.omitted or () if line.startswith("findings:"))
    assert "gpus-half-idle" in left
    assert any(line.startswith("fleet.jobs: ") for line in answer.omitted or ())


def test_a_full_answer_about_2000_sick_gpus_fits_with_the_page_of_each_finding() -> None:
    answer = inspected(huge(), "full")
    assert size(answer) <= 16_000
    findings = answer.findings
    assert findings
    assert all(each.formula and each.threshold and each.could_also_be and each.references for each in findings)


def test_every_source_that_is_cited_can_be_read() -> None:
    sick = fleet(track(0, 0.2), events=(Event(gpu(0), 79, True),), sources=huge().sources)
    answer = inspected(sick)
    assert len(answer.sources) == 3
    assert [name for name in answer.sources if not find("source", name)] == []


def test_a_healthy_fleet_is_a_sentence() -> None:
    answer = inspected(fleet(*(track(index, 0.9) for index in range(8))))
    assert answer.summary == "Looked at 8 GPUs on 1 host over 1 h: nothing to report."
    assert answer.next_measurement == "a longer window, such as 7d, shows what one hour does not"


def test_a_history_that_is_shorter_than_the_window_is_said() -> None:
    answer = inspected(fleet(track(0, 0.9, steps=range(45, 60))))
    assert answer.warnings == ["samples reach back 0.25 h only"]


def test_over_the_network_a_call_may_not_name_a_server_of_its_own() -> None:
    with access.limited(None), pytest.raises(UsageError) as caught:
        default_catalogue().call("inspect_gpus", {"prometheus": "http://127.0.0.1:1"})
    assert caught.value.message.startswith("this server asks no Prometheus but its operator's")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"window": "1h"}, "window is for a fleet; give it with prometheus, or leave it out"),
        ({"prometheus": "http://h", "indices": [0]}, "indices name GPUs of this machine; leave them out with prometheus"),
        ({"prometheus": "http://h", "window": "soon"}, "window must be a length such as 30m, 1h or 7d, from 1m to 31d, not 'soon'"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_go_together_are_refused(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        default_catalogue().call("inspect_gpus", given)
    assert caught.value.message == sentence

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from advisor_mcp.findings import SEVERITIES, Observation
from advisor_mcp.gpus.fleet.evidence import FLEET, Event, Fleet, plural, shown_units, worst
from advisor_mcp.gpus.xids import named


@FLEET.kind("xid-events", severity="error")
def xid_events(fleet: Fleet) -> Iterator[Observation]:
    """Errors that the NVIDIA driver reported as Xid events within the window, by code, with the immediate action that
    NVIDIA's catalogue gives. Its severity here: error where a GPU or node has to be taken out, warning where the
    application has to be started again, info where nothing is to be done at once. A code that stood since before the window
    is no event of it, and told as information: nobody may have acted on it.

    ## Formula
    steps at which XID_ERRORS, the code of the last event, is not 0; an event is of this window where the GPU was seen
    before without that code.

    ## Threshold
    One event: each is a statement of the driver, not a measurement.

    ## Could also be
    - a fault of the application (13, 31, 43, 45): an illegal address looks like a fault of the GPU at first
    - several events at once, of which the exporter keeps only the last

    ## Change
    The catalogue's immediate action for the code; then its investigatory action where the code comes again.

    ## Next measurement
    The kernel log of the host around that time (dmesg, lines with NVRM: Xid): it holds all events with their details.

    ## References
    - NVIDIA Xid catalogue, docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html
    - NVIDIA/dcgm-exporter etc/default-counters.csv: DCGM_FI_DEV_XID_ERRORS is the last code
    """
    for code, events in _by_code(event for event in fleet.events if event.fresh):
        yield _seen(code, events)
    for code, events in _by_code(event for event in fleet.events if not event.fresh):
        yield _stood(code, events)


def _by_code(events: Iterable[Event]) -> list[tuple[int, list[Event]]]:
    """Events by their code, the gravest code first."""
    found = defaultdict[int, list[Event]](list)
    for event in events:
        found[event.code].append(event)
    return sorted(found.items(), key=lambda each: (SEVERITIES.index(named(each[0]).severity), -len(each[1]), each[0]))


def _stood(code: int, events: list[Event]) -> Observation:
    xid = named(code)
    units = shown_units(sorted((event.unit for event in events), key=str))
    return Observation(
        message=f"Xid {code} ({xid.meaning}) stands on {units} since before the window",
        measured=len(events),
        unit="GPUs",
        where=units,
        change=f"Ask a longer window, or the host's kernel log, when it came; {xid.bucket} if nobody acted since: {xid.action}",
        severity="info",
    )


def _seen(code: int, events: list[Event]) -> Observation:
    xid = named(code)
    units = sorted((event.unit for event in events), key=str)
    jobs = sorted({job for event in events for job in event.jobs})
    hit = f" under {jobs[0]}" + (f" and {plural(len(jobs) - 1, 'more job')}" if len(jobs) > 1 else "") if jobs else ""
    return Observation(
        message=f"Xid {code} ({xid.meaning}) on {shown_units(units)}{hit}",
        measured=len(events),
        unit="GPUs",
        where=shown_units(units),
        change=f"{xid.bucket}: {xid.action}",
        rows=worst((0, f"{event.unit}: {', '.join(event.jobs) or 'no job'}") for event in events),
        severity=xid.severity,
    )

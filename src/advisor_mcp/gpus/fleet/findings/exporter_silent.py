from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.gpus.fleet.evidence import FLEET, Exporter, Fleet, plural, worst

STALE_S = 300
COVERED = 0.9


@FLEET.kind("exporter-silent")
def exporter_silent(fleet: Fleet) -> Iterator[Observation]:
    """Exporters that stopped reporting within the window, or reported with gaps. Nothing is known of their GPUs in that
    time, and an idle GPU that nobody sees is reported by nobody.

    ## Formula
    silence = end of the window - last step with a sample; coverage = steps with a sample / steps from first to last.

    ## Threshold
    5 minutes of silence, after which Prometheus itself calls a series stale (--query.lookback-delta), or two steps where
    steps are longer; coverage below 9/10.

    ## Could also be
    - a node that was drained or scaled down on purpose: its target is then no longer listed by Prometheus
    - a network or a scrape time-out, not the exporter

    ## Change
    Look at the target's page in Prometheus (/targets) for the last scrape's error; restart exporter or nv-hostengine.

    ## Next measurement
    `up` of that target over the window, and whether the host answers.

    ## References
    - Prometheus documentation, querying basics, staleness; flag --query.lookback-delta of 2.42
    """
    silent = [each for each in fleet.exporters if each.silent_s >= max(STALE_S, 2 * fleet.step_s)]
    gappy = [each for each in fleet.exporters if each not in silent and each.coverage < COVERED]
    found = sorted(silent, key=lambda each: (each.up is None, -each.gpus, each.name)) + gappy
    if not found:
        return
    gpus = sum(each.gpus for each in found)
    yield Observation(
        message=f"{plural(len(found), 'exporter')} with {plural(gpus, 'GPU')} {_state(found[0])}"
        + (f", or the like; {found[0].name} first" if len(found) > 1 else f" ({found[0].name})"),
        measured=gpus,
        unit="GPUs not seen all the time",
        where=", ".join(each.name for each in found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else ""),
        rows=worst((each.gpus, f"{each.name} ({', '.join(each.hosts[:2])}): {_state(each)}") for each in found),
        severity="info" if all(each in silent and each.up is None for each in found) else None,
    )


def _state(exporter: Exporter) -> str:
    if exporter.silent_s < STALE_S and exporter.coverage < COVERED:
        return f"reported {100 * exporter.coverage:.0f} % of the time"
    target = {True: "answers scrapes without GPUs", False: "cannot be scraped", None: "is no longer a target"}
    return f"silent for {exporter.silent_s / 60:.0f} min; {target[exporter.up]}"

"""From a Prometheus to a `Fleet`: which queries are asked, how coarse, and what their series say."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from advisor_mcp.errors import CannotAnswer, UsageError, shown
from advisor_mcp.gpus.fleet import metrics
from advisor_mcp.gpus.fleet.client import Labels, Prometheus
from advisor_mcp.gpus.fleet.evidence import Event, Exporter, Fleet, Track
from advisor_mcp.gpus.fleet.identity import Unit, exporter, job, unit
from advisor_mcp.gpus.fleet.metrics import ACTIVITY, PATTERN, Metric

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
SHORTEST_S, LONGEST_S = 60, 31 * 86_400
MOST_STEPS, FEWEST_STEPS = 240, 12
_RECENT_S = 300


def seconds(window: str) -> int:
    """The length of a window such as `30m`, `1h` or `7d`, in seconds; raises `UsageError` for another form or length."""
    parts = re.fullmatch(r"(\d{1,7})([smhdw])", window.strip())
    length = int(parts[1]) * _UNITS[parts[2]] if parts else 0
    if not SHORTEST_S <= length <= LONGEST_S:
        raise UsageError(f"window must be a length such as 30m, 1h or 7d, from 1m to 31d, not {shown(window)}")
    return length


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of the range queries: `steps` of `step_s` seconds, the last one ending at `end`."""

    end: float
    step_s: int
    steps: int
    scrape_s: float

    @property
    def window(self) -> str:
        """The whole span as PromQL writes it."""
        return f"{self.step_s * self.steps}s"

    @property
    def first(self) -> float:
        """When the first step ends."""
        return self.end - self.step_s * (self.steps - 1)

    def step_of(self, at: float) -> int:
        """The number of the step that ends at a time."""
        return round((at - self.first) / self.step_s)


def planned(end: float, window_s: int, scrape_s: float, series: int, samples: int) -> Plan:
    """Steps for that many series: at least two scrapes long so that none is empty by chance, and few enough.

    Raises `CannotAnswer` where `samples` would leave fewer than 12 steps, too few to tell idle from busy.
    """
    affordable = min(MOST_STEPS, samples // max(series, 1))
    if affordable < FEWEST_STEPS:
        raise CannotAnswer(f"{series:,} series in the window are more than can be read over time", ["a shorter window"])
    step_s = min(max(math.ceil(window_s / affordable), math.ceil(2 * scrape_s), 1), window_s)
    return Plan(end, step_s, max(window_s // step_s, 1), scrape_s)


def read(client: Prometheus, window_s: int) -> Fleet:
    """The fleet over the last `window_s` seconds of the server's own time.

    Raises `CannotAnswer` where the server cannot be read or holds no metric of a GPU's activity in that time.
    """
    end = client.now()
    served = metrics.served(client.names(PATTERN, end - window_s, end))
    activity = [metric for metric in served if metric.key in ACTIVITY]
    if not activity:
        raise _no_metrics(client, bool(served))
    plan = _plan(client, activity, end, window_s)
    draft = _Draft(plan, _renamed(client, activity, plan))
    for metric in served:
        _READERS[metric.reading](client, plan, metric, draft)
    if not draft.series:
        raise CannotAnswer(f"{client.address} has no sample of a GPU in the last {plan.window}", ["a longer window"])
    return draft.fleet(_targets_up(client, draft, end), served)


def _no_metrics(client: Prometheus, some: bool) -> CannotAnswer:
    found = "metrics of GPUs but none of their activity" if some else "no metrics of GPUs"
    wanted = metrics.preferred("kernel_running")
    return CannotAnswer(
        f"{client.address} holds {found} in that window",
        [f"an exporter that it scrapes: NVIDIA's dcgm-exporter ({wanted}) or AMD's device-metrics-exporter"],
    )


def _plan(client: Prometheus, activity: Sequence[Metric], end: float, window_s: int) -> Plan:
    counted = [client.instant(f"count(count_over_time({m.selector}[{window_s}s]))", end) for m in activity]
    series = max((int(found[0].value) for found in counted if found), default=0)
    recent = min(_RECENT_S, window_s)
    rates = [client.instant(f"max(count_over_time({m.selector}[{recent}s]))", end) for m in activity]
    scrapes = max((found[0].value for found in rates if found), default=0)
    scrape_s = recent / scrapes if scrapes else 60.0  # 1 m is Prometheus' own default
    return planned(end, window_s, scrape_s, series, client.limits.samples)


def _renamed(client: Prometheus, activity: Iterable[Metric], plan: Plan) -> bool:
    """Whether Prometheus renamed the labels of pods that hold GPUs, as it does without `honor_labels`."""
    held = 'exported_pod!=""'
    asked = (f"count(count_over_time({metric.having(held)}[{plan.window}]))" for metric in activity)
    return any(client.instant(query, plan.end) for query in asked)


@dataclass
class _Seen:
    """What is known so far of one GPU in the hands of one job."""

    unit: Unit
    job: str | None
    exporter: str | None
    shapes: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    means: dict[str, float] = field(default_factory=dict)
    clock_events: dict[int, int] = field(default_factory=dict)

    def track(self) -> Track:
        return Track(self.unit, self.job, dict(self.shapes), self.means, self.clock_events, self.exporter)


@dataclass
class _Draft:
    """A fleet in the making."""

    plan: Plan
    renamed: bool
    series: dict[tuple[str, str | None], _Seen] = field(default_factory=dict)
    growth: dict[str, dict[tuple[str, str | None], float]] = field(default_factory=lambda: defaultdict(dict))
    highest: dict[str, dict[Unit, float]] = field(default_factory=lambda: defaultdict(dict))
    restarted: set[str] = field(default_factory=set)
    codes: dict[tuple[str, int], tuple[int, set[str]]] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    scrape_jobs: set[str] = field(default_factory=set)

    def unit(self, labels: Labels) -> Unit | None:
        """The GPU of a series; always the same object, whatever other labels a metric carries."""
        found = unit(labels)
        return None if found is None else self.units.setdefault(found.id, found)

    def seen(self, labels: Labels) -> _Seen | None:
        """Where to note what a series says; None for a series that is not a GPU's."""
        found = self.unit(labels)
        if found is None:
            return None
        self.scrape_jobs.update(filter(None, [labels.get("job")]))
        holder = self.job(labels)
        return self.series.setdefault((found.id, holder), _Seen(found, holder, exporter(labels)))

    def job(self, labels: Labels) -> str | None:
        """The job of a series."""
        return job(labels, self.renamed)

    @cached_property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks in which activity was seen at all."""
        made = (seen.track() for seen in self.series.values())
        return tuple(track for track in made if track.steps)

    def fleet(self, up: Mapping[str, bool], served: Iterable[Metric]) -> Fleet:
        """The fleet as read."""
        return Fleet(
            step_s=self.plan.step_s,
            steps=self.plan.steps,
            tracks=self.tracks,
            growth={key: self._grown(parts) for key, parts in self.growth.items()},
            highest={key: dict(found) for key, found in self.highest.items()},
            restarted=frozenset(self.units[name] for name in self.restarted),
            events=tuple(self._events()),
            exporters=tuple(self._exporters(up)),
            present=frozenset(metric.key for metric in served),
            sources=frozenset(metric.source for metric in served),
            scrape_s=self.plan.scrape_s,
        )

    def _grown(self, parts: Mapping[tuple[str, str | None], float]) -> dict[Unit, float]:
        """Growth per GPU: series of jobs one after the other add up, those of jobs that share it say the same twice."""
        by_unit = defaultdict[str, list[float]](list)
        for (name, _), amount in parts.items():
            by_unit[name].append(amount)
        return {
            self.units[name]: max(amounts) if name in self._shared else sum(amounts)
            for name, amounts in by_unit.items()
        }

    @cached_property
    def _shared(self) -> frozenset[str]:
        """The GPUs that stood in several hands at one step."""
        seen, shared = set[tuple[str, int]](), set[str]()
        for track in self.tracks:
            for step in track.steps:
                if (track.unit.id, step) in seen:
                    shared.add(track.unit.id)
                seen.add((track.unit.id, step))
        return frozenset(shared)

    def _events(self) -> Iterator[Event]:
        first = dict[str, int]()
        for track in self.tracks:
            first[track.unit.id] = min(min(track.steps), first.get(track.unit.id, self.plan.steps))
        for (name, code), (step, jobs) in sorted(self.codes.items()):
            yield Event(self.units[name], code, step > first.get(name, 0), tuple(sorted(jobs)))

    def _exporters(self, up: Mapping[str, bool]) -> Iterator[Exporter]:
        grouped = defaultdict[str, list[Track]](list)
        for track in self.tracks:
            grouped[track.exporter or track.unit.host].append(track)
        for name, tracks in sorted(grouped.items()):
            steps = frozenset[int]().union(*(track.steps for track in tracks))
            yield Exporter(
                name,
                tuple(sorted({track.unit.host for track in tracks})),
                len({track.unit.id for track in tracks}),
                (self.plan.steps - 1 - max(steps)) * self.plan.step_s,
                len(steps) / (max(steps) - min(steps) + 1),
                up.get(name),
            )


def _shape(client: Prometheus, plan: Plan, metric: Metric, draft: _Draft) -> None:
    query = f"avg_over_time({metric.selector}[{plan.step_s}s])"
    for series in client.range(query, plan.first, plan.end, plan.step_s):
        if seen := draft.seen(series.labels):
            seen.shapes[metric.key].update((plan.step_of(at), value * metric.factor) for at, value in series.points)


def _mean(client: Prometheus, plan: Plan, metric: Metric, draft: _Draft) -> None:
    for found in client.instant(f"avg_over_time({metric.selector}[{plan.window}])", plan.end):
        if seen := draft.seen(found.labels):
            seen.means[metric.key] = found.value * metric.factor


def _mask(client: Prometheus, plan: Plan, metric: Metric, draft: _Draft) -> None:
    for series in client.range(metric.selector, plan.first, plan.end, plan.step_s):
        if seen := draft.seen(series.labels):
            seen.clock_events.update((plan.step_of(at), int(value)) for at, value in series.points)


def _highest(client: Prometheus, plan: Plan, metric: Metric, draft: _Draft) -> None:
    for found in client.instant(f"max_over_time({metric.selector}[{plan.window}])", plan.end):
        if owner := draft.unit(found.labels):
            reached = draft.highest[metric.key]
            reached[owner] = max(found.value * metric.factor, reached.get(owner, -math.inf))


def _increase(client: Prometheus, plan: Plan, metric: Metric, draft: _Draft) -> None:
    _grow(client, f"increase({metric.selector}[{plan.window}]) > 0", plan, metric, draft)


def _count(client: Prometheus, plan: Plan, metric: Metric, draft: _Draft) -> None:
    """Exact growth of a counter; where it fell back, PromQL's own estimate, which knows of resets."""
    span = f"{metric.selector}[{plan.window}]"
    _grow(client, f"(max_over_time({span}) - min_over_time({span})) > 0", plan, metric, draft)
    fallen = client.instant(f"resets({span}) > 0", plan.end)
    draft.restarted.update(owner.id for value in fallen if (owner := draft.unit(value.labels)))
    if fallen:
        _grow(client, f"increase({span}) and (resets({span}) > 0)", plan, metric, draft)


def _grow(client: Prometheus, query: str, plan: Plan, metric: Metric, draft: _Draft) -> None:
    for found in client.instant(query, plan.end):
        if owner := draft.unit(found.labels):
            draft.growth[metric.key][owner.id, draft.job(found.labels)] = found.value * metric.factor


def _event(client: Prometheus, plan: Plan, metric: Metric, draft: _Draft) -> None:
    for series in client.range(f"{metric.selector} != 0", plan.first, plan.end, plan.step_s):
        owner, holder = draft.unit(series.labels), draft.job(series.labels)
        if owner is None:
            continue
        for at, value in series.points:
            key, step = (owner.id, int(value)), plan.step_of(at)
            earlier, jobs = draft.codes.get(key, (step, set()))
            draft.codes[key] = min(step, earlier), jobs | ({holder} if holder else set())


_READERS = {
    "shape": _shape,
    "mean": _mean,
    "mask": _mask,
    "max": _highest,
    "increase": _increase,
    "count": _count,
    "event": _event,
}


def _targets_up(client: Prometheus, draft: _Draft, end: float) -> dict[str, bool]:
    """Whether each target that had GPUs can be scraped now; a target that was taken away is missing."""
    if not draft.scrape_jobs:
        return {}
    pattern = "|".join(re.escape(name) for name in sorted(draft.scrape_jobs))
    found = client.instant(f"up{{job=~{json.dumps(pattern)}}}", end)
    return {value.labels.get("instance", ""): value.value == 1 for value in found}

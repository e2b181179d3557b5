from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from advisor_mcp.findings import Observation
from advisor_mcp.gpus.fleet.evidence import FLEET, Fleet, Track, Use, plural, worst
from advisor_mcp.results import number

SIBLINGS = 4
SCORE = 3.5
NORMAL = 0.6745
LEAST = {"clock": 0.05, "sm_active": 0.1, "engine_active": 0.1}
WORDS = {"clock": ("clock", 1, "MHz"), "sm_active": ("SM activity", 100, "%"), "engine_active": ("activity", 100, "%")}


@dataclass(frozen=True, slots=True)
class _Apart:
    use: Use
    track: Track
    key: str
    value: float
    middle: float

    @property
    def gap(self) -> float:
        """How far from the middle, as a share of it."""
        return abs(self.value - self.middle) / self.middle

    @property
    def bound(self) -> float:
        """The share of the job's time that closing the gap can save: a slower clock holds up all, the rest is unknown."""
        return min(self.gap, 1.0)

    def __str__(self) -> str:
        what, scale, unit = WORDS[self.key]
        value, middle = number(round(scale * self.value)), number(round(scale * self.middle))
        return f"{self.track.unit}: {what} {value} {unit} where its {self.use.gpus - 1} siblings have {middle} {unit}"


@FLEET.kind("gpu-apart-from-its-job")
def apart(fleet: Fleet) -> Iterator[Observation]:
    """A GPU whose clock or activity stands apart from the other GPUs of its job. Where ranks step together, all go at the
    pace of the slowest; a lower clock makes it the slowest, a different activity shows that it waits or is waited for.

    ## Formula
    score = 0.6745 x (x - median) / median(|x - median|) over the means of a job's GPUs of one model;
    most that can be saved = |x - median| / median of the job's GPU-hours.

    ## Threshold
    |score| above 3.5 (the modified z-score of Iglewicz and Hoaglin, as the NIST handbook recommends it), in jobs of at
    least 4 GPUs; and 5 % of the clock (only downwards) or 10 % of the activity, so that siblings that agree to a hair
    raise nothing.

    ## Could also be
    - ranks with other work by design: pipeline ends, a parameter server, an evaluation rank
    - pods that share a name stem and are no one job
    - a GPU that joined late, or whose series has gaps

    ## Change
    Look at that GPU's throttling, temperature, power and Xid events; move the job off the host and see if the gap stays.

    ## Next measurement
    The step time of every rank, or traces of this rank and of a sibling for `diagnose_trace`.

    ## References
    - NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.17, detection of outliers
    """
    found = [each for use in fleet.worked if use.job for each in _apart(use)]
    if not found:
        return
    found.sort(key=lambda each: (each.key != "clock", -each.gap, str(each.track.unit)))
    first = found[0]
    affected = {each.use.name: max(other.bound for other in found if other.use is each.use) for each in found}
    bound = sum(affected[use.name] * use.hours for use in fleet.worked if use.name in affected)
    yield Observation(
        message=f"{first} ({first.use.name})" + (f", and {plural(len(found) - 1, 'more')}" if len(found) > 1 else ""),
        measured=100 * first.gap,
        unit="% from the median",
        where=f"{first.use.name}: {first.track.unit}",
        saves_at_most_percent=fleet.percent(bound),
        rows=worst((each.gap, f"{each} ({each.use.name})") for each in found),
    )


def _apart(use: Use) -> Iterator[_Apart]:
    told = set[str]()
    models = {track.unit.model for track in use.tracks}
    for key in LEAST:
        for model in sorted(models, key=str):
            for each in _outliers(use, key, [track for track in use.tracks if track.unit.model == model]):
                if each.track.unit.id not in told:
                    told.add(each.track.unit.id)
                    yield each


def _outliers(use: Use, key: str, tracks: list[Track]) -> Iterator[_Apart]:
    values = [(value, track) for track in tracks if (value := track.mean(key)) is not None]
    if len({track.unit.id for _, track in values}) < SIBLINGS:
        return
    middle = median(value for value, _ in values)
    spread = median(abs(value - middle) for value, _ in values)
    for value, track in values:
        away = value - middle
        far = abs(away) >= LEAST[key] * middle > 0 and NORMAL * abs(away) > SCORE * spread
        if far and (key != "clock" or away < 0):
            yield _Apart(use, track, key, value, middle)

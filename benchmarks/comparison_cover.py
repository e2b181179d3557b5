"""How often `compare_runs` is right on simulated runs: `python -m benchmarks.comparison_cover [--runs N] [--resamples N]`.

For each kind of run and each number of values, pairs of runs are drawn from one distribution. It prints how often the 95 %
interval holds the true ratio, how often a difference is called that is not there, and how often one of the smallest visible
size is found (80 % is what the answer promises).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from advisor_mcp.measuring import statistics
from advisor_mcp.measuring.comparison import Comparison, compare
from advisor_mcp.measuring.samples import Samples

Array = NDArray[np.float64]
SIZES = ((5, 5), (10, 10), (20, 20), (50, 50), (50, 200), (300, 300))


def lognormal(random: Generator, count: int) -> Array:
    """Independent steps with a spread of 5 %."""
    return np.exp(0.05 * random.standard_normal(count))


def heavy_tailed(random: Generator, count: int) -> Array:
    """Steps that are never faster than a floor and now and then far slower: a folded Student t with 1.5 degrees."""
    return 1 + 0.02 * np.abs(random.standard_t(1.5, count))


def with_stalls(random: Generator, count: int) -> Array:
    """One step in twenty takes five times as long, as with checkpoints."""
    return lognormal(random, count) * np.where(random.random(count) < 0.05, 5.0, 1.0)


def correlated(neighbours: float) -> Callable[[Generator, int], Array]:
    """Steps that follow each other: a Gaussian autoregression of the first order, as an exponent."""

    def draw(random: Generator, count: int) -> Array:
        noise = random.standard_normal(count + 200) * np.sqrt(1 - neighbours**2)
        for at in range(1, len(noise)):
            noise[at] += neighbours * noise[at - 1]
        return np.asarray(np.exp(0.05 * noise[200:]))

    return draw


KINDS: dict[str, tuple[Callable[[Generator, int], Array], Callable[[Generator, int], Array]]] = {
    "lognormal": (lognormal, lognormal),
    "heavy-tailed": (heavy_tailed, heavy_tailed),
    "stalls": (with_stalls, with_stalls),
    "one noisier, x5": (lognormal, lambda random, count: lognormal(random, count) ** 5),
    **{f"correlated {r}": (correlated(r), correlated(r)) for r in (0.3, 0.6, 0.8)},
}


@dataclass
class Tally:
    """Counts over simulated pairs."""

    pairs: int = 0
    told: int = 0
    covered: int = 0
    false: int = 0
    found: int = 0

    def add(self, same: Comparison, shifted: Comparison | None) -> None:
        """Count a pair without a difference, and the same pair with the smallest visible one."""
        self.pairs += 1
        if same.ratio.interval is not None:
            self.told += 1
            self.covered += same.ratio.interval[0] <= 1 <= same.ratio.interval[1]
        self.false += same.verdict in ("faster", "slower")
        self.found += shifted is not None and shifted.verdict in ("faster", "slower")

    def row(self) -> str:
        """The shares as a row of a table; pairs of which nothing is said count for no interval."""
        told = f"{100 * self.covered / self.told:5.1f}" if self.told else "    -"
        return f"{100 * self.told / self.pairs:5.0f} | {told} | {100 * self.false / self.pairs:5.1f} | {100 * self.found / self.pairs:5.1f}"


def tally(kind: str, sizes: tuple[int, int], pairs: int) -> Tally:
    """Simulate `pairs` pairs of runs of these lengths."""
    random = np.random.default_rng(20_26)
    result = Tally()
    for _ in range(pairs):
        base, other = (draw(random, count) for draw, count in zip(KINDS[kind], sizes, strict=True))
        same = _compared(base, other)
        result.add(same, _compared(base, other * same.smallest_visible) if same.smallest_visible else None)
    return result


def _compared(base: Array, other: Array) -> Comparison:
    drawn = zip("AB", (base, other), strict=True)
    runs = {name: Samples("simulated", "ms", tuple(v), repetitions=len(v) < 20) for name, v in drawn}
    return compare(runs)[0]


def main() -> None:
    """Print a row for each kind and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="simulated pairs for each row")
    parser.add_argument(
        "--resamples", type=int, default=999, help="of each comparison; compare_runs itself takes 9,999"
    )
    asked = parser.parse_args()
    statistics.RESAMPLES = asked.resamples
    print("| runs | values | answered % | interval covers % | false difference % | smallest visible found % |")
    print("|---|---|---|---|---|---|")
    for kind in KINDS:
        for sizes in SIZES if "correlated" not in kind else SIZES[2:]:
            print(f"| {kind} | {sizes[0]}, {sizes[1]} | {tally(kind, sizes, asked.runs).row()} |", flush=True)


if __name__ == "__main__":
    main()

"""Reused actors against new ones: eight trials that train nothing, the two ways in turn in one Ray.

    python benchmarks/reuse_actors.py [rounds]

Prints the seconds of each run, and the ratio new / reused with its range over the rounds. A trial that trains nothing
still pays for its actor: a process, and torch imported in it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from trivial_trials import space_of, study_of

from flowsearch.search.cluster import machines

TRIALS, EPOCHS = 8, 1


def main(rounds: int) -> None:
    """Alternate, so that whatever else the machine does falls on both."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder, machines(None, space_of(Path(folder), TRIALS, EPOCHS).resources, 2):
        study_of(Path(folder) / "warm-up", 2, EPOCHS)
        for number in range(rounds):
            seconds = {}
            for reuse in (True, False):
                began = time.perf_counter()
                study_of(Path(folder) / f"{number}-{reuse}", TRIALS, EPOCHS, reuse_actors=reuse)
                seconds[reuse] = time.perf_counter() - began
            ratios.append(seconds[False] / seconds[True])
            print(f"reused {seconds[True]:6.2f} s   new {seconds[False]:6.2f} s   ratio {ratios[-1]:.2f}", flush=True)
    print(f"new / reused: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}; wanted 3.5")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)

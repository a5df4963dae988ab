"""How long `--help`, `report` and `status` take on 1,000 trials x 30 epochs x 3 splits, process start included.

The bare interpreter and the report's own imports are timed in the same run: they are the floor that no report can go
below. Usage: python benchmarks/report.py [--trials 1000] [--epochs 30] [--runs 7]
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from flowsearch.results import SPLITS, compact
from flowsearch.results.journal import encode

IMPORTS = "import numpy, pyarrow.parquet, rich.table, typer"


def write_study(folder: Path, trials: int, epochs: int) -> None:
    """A study as a search with pruning leaves it: every third trial runs to the end."""
    chance = random.Random(0)
    folder.mkdir(parents=True)
    with (folder / "journal.jsonl").open("wb") as file:
        file.write(encode({"event": "study", "time": 0.0, "corpus": "synthetic", "vocabulary_size": 207}))
        for trial in range(trials):
            params = {"model.posterior": chance.choice(["Gaussian", "IAF"]), "objective.beta": chance.random()}
            start = {"event": "start", "time": 0.0, "trial": trial, "params": params, "seed": 0, "label": "VAE"}
            file.write(encode(start))
            for epoch in range(1, epochs + 1):
                readings = [{"split": split, "values": reading(chance)} for split in SPLITS]
                file.write(
                    encode({"event": "report", "time": 1.0, "trial": trial, "epoch": epoch, "readings": readings})
                )
            state = "PRUNED" if trial % 3 else "COMPLETE"
            file.write(encode({"event": "finish", "time": 2.0, "trial": trial, "state": state, "seconds": 60.0}))


def reading(chance: random.Random) -> dict[str, float]:
    """Sixteen metrics, as training reports them."""
    elbo = -35 - chance.random()
    values = {"elbo": elbo, "kl": 5 * chance.random(), "ppl": math.exp(-elbo / 13), "active_units": 8.0}
    return {**values, **{f"metric_{number}": chance.random() for number in range(12)}}


def timed(command: Sequence[str], runs: int) -> str:
    """Median and range of the wall time of a command, in milliseconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(1000 * (time.perf_counter() - start))
    return f"{statistics.median(times):6.0f} ms  ({min(times):.0f} to {max(times):.0f})"


def main() -> None:
    """Build the study, time every command, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("trials", 1000), ("epochs", 30), ("runs", 7)):
        parser.add_argument(f"--{name}", type=int, default=value)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as results:
        folder = Path(results) / "bench"
        write_study(folder, chosen.trials, chosen.epochs)
        run = [sys.executable, "-m", "flowsearch"]

        def show(name: str, command: Sequence[str]) -> None:
            print(f"{name:34}{timed(command, chosen.runs)}", flush=True)

        show("interpreter", [sys.executable, "-c", ""])
        show("imports alone", [sys.executable, "-c", IMPORTS])
        show("--help", [*run, "--help"])
        show("report, journal only", [*run, "report", "--results", results])
        show("status, journal only", [*run, "status", "bench", "--results", results])
        compact(folder)
        show("status, Parquet", [*run, "status", "bench", "--results", results])
        for style in ("table", "csv"):
            show(f"report --format {style}, Parquet", [*run, "report", "--results", results, "--format", style])
        show("report --all, Parquet", [*run, "report", "--results", results, "--all"])


if __name__ == "__main__":
    main()

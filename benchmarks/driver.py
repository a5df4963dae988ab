"""What the driver costs: seconds per trial and memory, over studies whose trials train nothing.

    python benchmarks/driver.py [--epochs E] [--whole] [trials ...]

Prints wall time and the driver's own processor time per trial, its resident memory at the end, and how long
`flowsearch report` then takes; Ray's start is not counted. With `--whole` no trial is pruned. Each study runs in a
process of its own, so that memory is its own too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trivial_trials import space_of, study_of

from flowsearch.search.cluster import machines


def measure(trials: int, epochs: int, pruner: str) -> None:
    """One study."""
    with tempfile.TemporaryDirectory() as folder, machines(None, space_of(Path(folder), trials, epochs).resources, 2):
        wall, processor = time.perf_counter(), time.process_time()
        study_of(Path(folder) / "study", trials, epochs, pruner=pruner)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        journal = (Path(folder) / "study" / "study" / "journal.jsonl").read_bytes()
        began = time.perf_counter()
        command = [sys.executable, "-m", "flowsearch", "report", "--results", str(Path(folder) / "study")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        report = time.perf_counter() - began
    reports = journal.count(b'{"event":"report"')
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{trials} trials, {reports} reports; wanted at most 0.2 s per trial, 600 MB and 2 s")
    print(f"  {wall / trials:.3f} s wall per trial, {processor / trials:.3f} s of it on the driver's processor")
    print(f"  {memory:.0f} MB at most; report: {report:.2f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", type=int, default=[200, 1000])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--whole", action="store_true", help="prune nothing")
    asked = parser.parse_args()
    for count in asked.trials:
        work = (count, asked.epochs, "null" if asked.whole else "ASHA")
        process = multiprocessing.get_context("spawn").Process(target=measure, args=work)
        process.start()
        process.join()

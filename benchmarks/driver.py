"""What the driver costs: seconds per trial and memory, over studies whose trials train nothing.

    python benchmarks/driver.py [trials ...]

Prints wall time and the driver's own processor time per trial, and its resident memory at the end; Ray's start is not
counted. Each study runs in a process of its own, so that memory is its own too.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

from trivial_trials import space_of, study_of

from flowsearch.search.cluster import machines

EPOCHS = 5


def measure(trials: int) -> None:
    """One study."""
    with tempfile.TemporaryDirectory() as folder, machines(None, space_of(Path(folder), trials, EPOCHS).resources, 2):
        wall, processor = time.perf_counter(), time.process_time()
        study_of(Path(folder) / "study", trials, EPOCHS)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        journal = (Path(folder) / "study" / "study" / "journal.jsonl").read_bytes()
    reports = journal.count(b'{"event":"report"')
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{trials} trials, {reports} reports; wanted at most 0.2 s per trial and 600 MB")
    print(f"  {wall / trials:.3f} s wall per trial, {processor / trials:.3f} s of it on the driver's processor")
    print(f"  {memory:.0f} MB at most", flush=True)


if __name__ == "__main__":
    for count in [int(argument) for argument in sys.argv[1:]] or [200, 1000]:
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(count,))
        process.start()
        process.join()

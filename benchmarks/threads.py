"""Two trials with one thread each, or one trial with two threads: which trains more tokens per second on two cores?

Every trial is a process of its own that trains `--seconds` on one batch after a common start, with the step of
`benchmarks/training_step.py`. The arrangements take turns; what counts is the tokens of all trials together per second
of wall time. `--beside 2` adds as many busy processes, which is what a shared machine looks like: threads that wait for
each other at every barrier then wait for the scheduler too.

Usage: python benchmarks/threads.py [--rounds 5] [--seconds 6] [--beside 0]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from _compare import Spread, interleaved, ratio

SIZE = Namespace(embeddings=128, hidden=256, vocabulary=5000, documents=32, tokens=80, latent=32)
BUSY = "while True: pass"


def work(threads: int, seconds: float) -> None:
    """Get ready, say so, wait for the word, then train and print tokens per second of wall time."""
    import torch
    from training_step import a_batch, our_step, ours

    from flowsearch.training.precision import fastest_float32

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    fastest_float32("cpu")
    step = our_step(ours(SIZE, 0.5), a_batch(SIZE))
    step()
    print("ready", flush=True)
    sys.stdin.readline()
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        step()
        steps += 1
    print(steps * SIZE.documents * SIZE.tokens / (time.perf_counter() - start))


def together(trials: int, threads: int, seconds: float) -> Callable[[], float]:
    """A variant: so many trials at once with so many threads each, their tokens per second summed."""
    command = [sys.executable, __file__, "--work", str(threads), "--seconds", str(seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}

    def variant() -> float:
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            for _ in range(trials)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        answers = []
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            answers.append(float(process.communicate()[0]))
        return sum(answers)

    return variant


@contextmanager
def beside(processes: int) -> Iterator[None]:
    """Busy processes for as long as it takes."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    """Compare the two arrangements."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--beside", type=int, default=0)
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.seconds)
        return
    variants = {
        "two trials, one thread each": together(2, 1, options.seconds),
        "one trial, two threads": together(1, 2, options.seconds),
    }
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.beside} busy processes beside")
    with beside(options.beside):
        seen = interleaved(variants, options.rounds, warmup=0)
    for name, values in seen.items():
        spread = Spread.of(values)
        print(f"{name:28}{spread.median:9.0f} tokens/s ({spread.low:.0f} to {spread.high:.0f})")
    print(f"{'together / threaded':28}{ratio(*seen.values())!s:>9}")


if __name__ == "__main__":
    main()

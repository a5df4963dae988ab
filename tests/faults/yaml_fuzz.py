"""The fault table's row about YAML: how many files were tried, how each was answered, the slowest and the largest.

    python tests/faults/yaml_fuzz.py 10000

Exit code 1 if one was answered by anything but a space or one line, ran or imported something, or took more than a
second of processor time or 200 MB.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "search"))

from hostile_spaces import EDGES, HEAD, TEXTS

from flowsearch.errors import BadInput
from flowsearch.search.space import load

SECONDS, MEGABYTES = 1.0, 200.0
FORBIDDEN = (
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.system",
    "pickle.find_class",
    "socket.connect",
    "subprocess.Popen",
)
"""Events of Python's own audit that reading a file must not raise."""


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Tally:
    """What became of each file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "fuzz.yaml"
        (folder / "canary.py").write_text("def call(*given): raise SystemExit")
        sys.path.insert(0, str(folder))
        self.answers: Counter[str] = Counter()
        self.slowest = 0.0
        self._file.write_text(HEAD)
        load(self._file)
        self.acts: Counter[str] = Counter()
        sys.addaudithook(self._watch)
        self._before = peak()

    def add(self, text: str) -> None:
        """Try one file."""
        self._file.write_bytes(text.encode("utf-8", "surrogatepass"))
        began = time.process_time()
        try:
            load(self._file)
            answer = "valid"
        except BadInput as error:
            answer = "one line" if str(error).isprintable() and len(str(error)) < 700 else "not one line"
        except BaseException as error:
            answer = f"traceback: {type(error).__name__}"
        self.slowest = max(self.slowest, time.process_time() - began)
        self.answers[answer] += 1

    def _watch(self, event: str, given: tuple[object, ...]) -> None:
        """What Python does on behalf of a file that it must never do."""
        if event in FORBIDDEN or (event == "import" and given[0] == "canary"):
            self.acts[event] += 1

    @property
    def grown(self) -> float:
        """Megabytes."""
        return peak() - self._before

    @property
    def is_good(self) -> bool:
        """Whether every file was answered as it must be."""
        within = self.slowest < SECONDS and self.grown < MEGABYTES
        return set(self.answers) <= {"valid", "one line"} and not self.acts and within


def fuzz(count: int) -> Tally:
    """Try `count` files, those at the edge first."""
    with tempfile.TemporaryDirectory() as folder:
        tally = Tally(Path(folder))
        for text in EDGES.values():
            tally.add(text)

        @seed(0)
        @settings(
            max_examples=count - len(EDGES), deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(text=TEXTS)
        def each(text: str) -> None:
            tally.add(text)

        each()
    return tally


def main() -> int:
    """Print the row."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    tally = fuzz(count)
    answers = ", ".join(f"{times} {answer}" for answer, times in sorted(tally.answers.items(), reverse=True))
    print("| fault | tried | answered | ran | slowest | memory | held |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| YAML fuzz | {tally.answers.total()} | {answers} | {', '.join(tally.acts) or 'nothing'} "
        f"| {tally.slowest:.2f} s | +{tally.grown:.0f} MB | {'yes' if tally.is_good else 'NO'} |"
    )
    return 0 if tally.is_good else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())

"""A real driver, on a real Ray, of a study of toys: `driver.py FOLDER SPACE READINGS [--resume] [--live]`."""

from __future__ import annotations

import fcntl
import sys
import termios
from pathlib import Path

from flowsearch.search.space import load
from flowsearch.search.study import load_corpus, run_space

if __name__ == "__main__":
    folder, file, readings = sys.argv[1:4]
    if "--live" in sys.argv:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that its terminal's Ctrl-C is a signal
    toy = load(Path(file))
    corpus = load_corpus(toy) if readings.endswith(":mortal") else None
    options = {"resume": "--resume" in sys.argv, "plain": "--live" not in sys.argv}
    sys.exit(run_space(toy, folder=Path(folder), corpus=corpus, readings=readings, **options))

"""`python -m tests.faults [--count small|large] [FAULT ...]`: inflict every fault, print a row for each."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "search")]

from faults import COUNTS, FAULTS, Row  # noqa: E402  after the path


def main() -> int:
    """Run the faults that are named, or all; 0 if none did harm."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--count", choices=COUNTS, default="small", help="how often each fault strikes")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which it does")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)}; none means all")
    asked = parser.parse_args()
    harmless = True
    print("|".join(("", *Row.HEADINGS, "seconds", "")))
    print("|".join(("", *["---"] * (len(Row.HEADINGS) + 1), "")))
    for name in asked.faults or FAULTS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            row = FAULTS[name](COUNTS[asked.count][name], Path(folder), asked.seed)
        print("|".join(("", *row.cells(), f"{time.monotonic() - began:.0f}", "")), flush=True)
        harmless &= row.is_harmless
    return 0 if harmless else 1


if __name__ == "__main__":
    sys.exit(main())

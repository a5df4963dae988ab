"""`python -m flowsearch` is `flowsearch`."""

from __future__ import annotations

from flowsearch.cli import main

if __name__ == "__main__":
    main()

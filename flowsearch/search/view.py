"""What a person sees while a search runs: one live table on a terminal, one line per event anywhere else.

Text that came from a user is cleaned of control characters and never read as markup.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flowsearch.search import goals
from flowsearch.search.asktell import CONFIRM, AskTell, Trial
from flowsearch.search.pruning import is_collapsed
from flowsearch.search.recorder import Watcher

REFRESH = 0.25
"""Seconds between two pictures of the live view, at least."""

SHOWN = 8
"""Rows of each table of the live view, and warnings below them, at most."""


class View(Watcher):
    """A watcher that shows what it is told, from `with` until the end of the block."""

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""

    def tick(self) -> None:
        """Called several times a second."""

    def note(self, text: str) -> None:
        """Say something about the study as a whole."""


class Lines(View):
    """One line per event.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def note(self, text: str) -> None:
        """A line of its own."""
        self._console.print(Text(clean(text)), soft_wrap=True)

    def started(self, trial: Trial) -> None:
        """`trial 3 starts: VAE + IAF(k=2), seed 0`, and `to confirm` where that is its phase."""
        again = f", attempt {trial.attempt}" if trial.attempt > 1 else ""
        purpose = " to confirm" if trial.phase == CONFIRM else ""
        self.note(f"trial {trial.number} starts{purpose}: {trial.label}, seed {trial.seed}{again}")

    def reported(self, trial: Trial, epoch: int) -> None:
        """`trial 3 epoch 5 valid: -ELBO 38.21 nats/doc, KL 2.10, AU 4`."""
        self.note(f"trial {trial.number} epoch {epoch} valid: {spelled(trial.latest)}")

    def collapsed(self, trial: Trial, epoch: int) -> None:
        """`trial 3 collapsed at epoch 5: KL 0.01, AU 0`."""
        self.note(collapse(trial, epoch))

    def lost(self, trial: Trial, reason: str) -> None:
        """`trial 3 will start again: its worker died`."""
        self.note(f"trial {trial.number} will start again: {reason}")

    def finished(self, trial: Trial) -> None:
        """`trial 3 COMPLETE: best -ELBO 38.21 nats/doc at epoch 5`, or `trial 3 PRUNED: ASHA at epoch 3`."""
        self.note(ending(trial))


class Picture(View):
    """A live picture of the search.

    Args:
        console: a terminal.
        search: what is shown.
    """

    def __init__(self, console: Console, search: AskTell) -> None:
        self._search = search
        self._began = time.monotonic()
        self._done_before = sum(trial.state != "RUNNING" for trial in search.trials)
        self._drawn = -REFRESH
        self._warnings: list[str] = []
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> Picture:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.update(self.picture(), refresh=True)
        self._live.stop()

    def tick(self) -> None:
        """A new picture, unless the last one is fresh."""
        if time.monotonic() - self._drawn >= REFRESH:
            self._drawn = time.monotonic()
            self._live.update(self.picture(), refresh=True)

    def note(self, text: str) -> None:
        """A line above the picture, which stays."""
        self._live.console.print(Text(clean(text)), soft_wrap=True)

    def collapsed(self, trial: Trial, epoch: int) -> None:
        """A warning below the tables."""
        self._warn(collapse(trial, epoch))

    def lost(self, trial: Trial, reason: str) -> None:
        """A warning below the tables."""
        self._warn(f"trial {trial.number} will start again: {reason}")

    def finished(self, trial: Trial) -> None:
        """A warning below the tables, if it failed."""
        if trial.state == "FAIL":
            self._warn(ending(trial))

    def _warn(self, text: str) -> None:
        self._warnings = [*self._warnings[-SHOWN + 1 :], text]

    def picture(self) -> RenderableType:
        """The whole view, for the state of this moment."""
        trials = self._search.trials
        running = [trial for trial in trials if trial.state == "RUNNING"]
        best = goals.best(self._search, SHOWN)[:SHOWN]
        parts: list[RenderableType] = [Text(self._headline(), style="bold", overflow="fold")]
        parts += [table("running", running[:SHOWN], latest=True)] if running else []
        parts += [table("best", best, latest=False)] if best else []
        parts += [Text(clean(warning), style="yellow", overflow="ellipsis", no_wrap=True) for warning in self._warnings]
        return Group(*parts)

    def _headline(self) -> str:
        count = Counter(trial.state for trial in self._search.trials)
        elapsed = time.monotonic() - self._began
        done = len(self._search.trials) - count["RUNNING"]
        left = remaining(elapsed, done - self._done_before, self._search.total - done)
        states = ", ".join(f"{count[state]} {state}" for state in ("RUNNING", "COMPLETE", "PRUNED", "FAIL"))
        name = self._search.space.study
        return f"{name}: {done} of {self._search.total} trials ({states}) in {span(elapsed)}, about {left} left"


def table(title: str, trials: list[Trial], *, latest: bool) -> Table:
    """Trials with the reading of their last or of their best epoch."""
    shown = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("trial", "model"):
        shown.add_column(heading, no_wrap=True, overflow="ellipsis")
    for heading in ("seed", "epoch", "-ELBO", "KL", "AU"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True)
    for trial in trials:
        values, epoch = (trial.latest, trial.last_epoch) if latest else (trial.best, trial.best_epoch)
        cells = (
            [number(-values["elbo"]), number(values.get("kl")), number(values.get("active_units"), 0)] if values else []
        )
        row = [str(trial.number), trial.label, str(trial.seed), str(epoch or "-"), *(cells or ["-"] * 3)]
        signs = [CONFIRM] if trial.phase == CONFIRM else []
        signs += ["collapsed"] if trial.collapsed and is_collapsed(values) else []
        shown.add_row(*(Text(clean(cell)) for cell in row), ", ".join(signs))
    return shown


def spelled(values: Mapping[str, float]) -> str:
    """The headline metrics of a validation reading.

    >>> spelled({"elbo": -38.214, "kl": 2.1, "active_units": 4.0})
    '-ELBO 38.21 nats/doc, KL 2.10, AU 4'
    """
    parts = [f"-ELBO {number(-values['elbo'])} nats/doc"]
    parts += [f"KL {number(values['kl'])}"] if "kl" in values else []
    parts += [f"AU {number(values['active_units'], 0)}"] if "active_units" in values else []
    return ", ".join(parts)


def collapse(trial: Trial, epoch: int) -> str:
    """The warning about a collapsed trial."""
    return f"trial {trial.number} collapsed at epoch {epoch}: {spelled(trial.latest)}"


def ending(trial: Trial) -> str:
    """How a trial ended."""
    if trial.reason:
        return f"trial {trial.number} {trial.state}: {trial.reason}"
    return f"trial {trial.number} {trial.state}: best {spelled(trial.best)} at epoch {trial.best_epoch}"


def number(value: float | None, digits: int = 2) -> str:
    """A number for a table.

    >>> number(38.214), number(None)
    ('38.21', '-')
    """
    return "-" if value is None else f"{value:.{digits}f}"


def span(seconds: float) -> str:
    """A length of time.

    >>> span(59.6), span(4000)
    ('1:00', '1:06:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def remaining(elapsed: float, done: int, left: int) -> str:
    """Time left if trials go on ending at the rate so far.

    >>> remaining(60.0, done=2, left=4), remaining(60.0, done=0, left=4)
    ('2:00', '?')
    """
    return span(elapsed / done * left) if done else "?"


def clean(text: str) -> str:
    r"""Without control characters, which a terminal would obey.

    >>> clean("a\x1b[31mb\nc")
    'a?[31mb?c'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)

"""A study from its file to its tables: check everything, then search, then leave results that can be read and resumed.

    run(Path("search_spaces/iaf.yaml"), ["search.trials=8"], results=Path("results"))

The order matters. What a user can get wrong is found first, cheapest first: the space, then the study's folder, then
the corpus. Only then does Ray start. From there on the journal is complete at every moment, so a study can be stopped
in any way, and `resume=True` goes on where it stood.
"""

from __future__ import annotations

import math
import platform
import shutil
import signal
import subprocess
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from types import FrameType
from typing import Any, NamedTuple

from rich.console import Console

from flowsearch import text
from flowsearch.errors import FlowsearchError, SpaceError, StudyError
from flowsearch.results import Journal, Replay, compact, read
from flowsearch.results.journal import last
from flowsearch.results.lock import locked
from flowsearch.results.mirror import place
from flowsearch.results.store import JOURNAL, write_atomically
from flowsearch.search import goals, loggers
from flowsearch.search.asktell import CONFIRM, AskTell, Trial, Verdict, identity
from flowsearch.search.budget import Meter
from flowsearch.search.changes import SPACE, Change, changes, flattened, refuse, stranded
from flowsearch.search.cluster import machines
from flowsearch.search.copies import copying
from flowsearch.search.disk import refused, refuses
from flowsearch.search.forecast import told
from flowsearch.search.gauges import Gauges
from flowsearch.search.recorder import Recorder
from flowsearch.search.resume import replay, sampler_seed, unfinished
from flowsearch.search.space import Space, load, size
from flowsearch.search.task import READINGS
from flowsearch.search.view import Lines, Picture, View, spelled
from flowsearch.search.watchers import Watchers

CORPUS_KEYS = ("corpus", "root", "vocabulary_size", "min_count", "max_words")
"""Keys of `data` that say which corpus; the others say how it is read."""

COMPACT_EVERY = 30.0
"""Seconds between two Parquet snapshots of a running study, or twenty times what one takes."""

DRAIN = 30.0
"""Seconds that running trials have to reach their next checkpoint after a signal."""

RAY = "_ray"
"""The folder that Ray Tune is given for files of its own; it goes when the search ends."""


def run(
    file: Path,
    overrides: Sequence[str] = (),
    *,
    results: Path,
    address: str | None = None,
    resume: bool | None = False,
    allow_change: bool = False,
    dry_run: bool = False,
    plain: bool = False,
    log: Sequence[str] = (),
    mirror: str | None = None,
) -> int:
    """Run the study that a space file describes.

    Args:
        file: the space.
        overrides: `key=value`.
        results: the folder that holds the study's.
        address: of a Ray cluster; None starts Ray here.
        resume: go on with a study that exists; None: if it does.
        allow_change: although its space, the code or its corpus is not what it was.
        dry_run: say what would run, and start nothing.
        plain: one line per event even on a terminal.
        log: names of loggers (see `flowsearch.search.loggers`).
        mirror: address of a second place for the study's files (see `flowsearch.results.mirror`).

    Returns:
        0, 1 if no trial completed, 130 or 143 if a signal stopped it.

    Raises:
        BadInput: the space, the corpus or the study's name; before anything has started.
        FlowsearchError: Ray or the disk gave up; the study can be resumed.
    """
    loggers.check(log)
    if mirror is not None:
        place(mirror)
    space = load(file, overrides)
    folder = results.resolve() / space.study
    console = Console(highlight=False, markup=False, emoji=False)
    resume = exists(folder) if resume is None else resume
    check_folder(folder, resume=resume)
    corpus = load_corpus(space)
    changed = changes(folder, space, corpus.checksum, code()) if resume else []
    if not allow_change:
        refuse(folder, changed)
    view = Lines(console)
    for note in corpus.notes:
        view.note(f"corpus {corpus.name}: {note}")
    if dry_run:
        for line in plan(space, corpus, folder):
            view.note(line)
        return 0
    return run_space(
        space,
        folder=folder,
        corpus=corpus,
        address=address,
        resume=resume,
        changed=changed,
        plain=plain,
        log=log,
        mirror=mirror,
        console=console,
    )


def run_space(
    space: Space,
    *,
    folder: Path,
    corpus: text.Corpus | None = None,
    address: str | None = None,
    resume: bool = False,
    changed: Sequence[Change] = (),
    plain: bool = True,
    log: Sequence[str] = (),
    mirror: str | None = None,
    console: Console | None = None,
    readings: str = READINGS,
    reuse_actors: bool = True,
) -> int:
    """Run a study whose space and corpus have been checked.

    Args:
        space: the space.
        folder: of the study.
        corpus: what its trials read; None if they need none.
        address: as in `run`.
        resume: as in `run`.
        changed: on purpose, since the study ran last.
        plain: as in `run`.
        log: as in `run`.
        mirror: as in `run`.
        console: where to show what happens.
        readings: `module:function`, what a trial runs in a worker (see `flowsearch.search.trainable`).
        reuse_actors: one after another in the same processes; otherwise each trial pays seconds for one of its own.

    Returns:
        As `run`.

    Raises:
        StudyError: another driver has the study.
        FlowsearchError: as `run`.
    """
    console = console or Console(highlight=False, markup=False, emoji=False)
    folder.mkdir(parents=True, exist_ok=True)
    sending = copying(folder, mirror, Lines(console).note)
    with disk(folder), claimed(folder, resume=resume), Signals() as signals, sending as sent:
        shutil.rmtree(folder / RAY, ignore_errors=True)  # of a driver that was killed
        done = read(folder / JOURNAL) if resume else Replay([], 0, [])
        search, verdicts = replay(space, done.events)
        meter = Meter(search, done.events)
        if changed:
            verdicts |= dict.fromkeys(stranded(folder, search, unfinished(search), changed), STRANDED)
        view = Picture(console, search) if console.is_terminal and not plain else Lines(console)
        if done.damaged:
            view.note(f"{folder / JOURNAL}: {len(done.damaged)} damaged line(s) skipped")
        if not resume:
            write_atomically(folder / SPACE, described(space).encode())
        with Journal(folder / JOURNAL) as journal, loggers.opened(log, space.study, folder, view.note) as copies:
            pending = [trial for trial in unfinished(search) if trial not in verdicts]
            recorder = Recorder(search, journal, folder, Watchers([view, *copies, *sent]), pending)
            recorder.may_begin = meter.fits
            settle(recorder, journal, verdicts, changed, facts(space, corpus))
            write_atomically(folder / SPACE, described(space).encode())
            left = search.total - len(search.trials) + len(pending)
            if not left:
                view.note(f"{space.study}: all {search.total} trials have finished; more: search.trials=N --resume")
            elif meter.is_open() and (pending or meter.fits()):
                searched(recorder, view, signals, meter, Workers(readings, corpus, reuse_actors, mirror), address, left)
        compact(folder)
    return concluded(search, folder, signals, meter, console)


def settle(
    recorder: Recorder,
    journal: Journal,
    verdicts: Mapping[int, Verdict],
    changed: Sequence[Change],
    known: Mapping[str, Any],
) -> None:
    """Begin a session in the journal: end what is to end, and let go of what only unfinished trials need.

    1. After a change the new facts come last: a driver that is killed before them is asked for the change again, and
       goes on with no trial that the change has stranded.
    2. Until then the session has the facts of the last one, since wall clock counts from a `study` event.

    Args:
        recorder: of the search.
        journal: the same as the recorder's.
        verdicts: on trials that do not go on.
        changed: on purpose, since the study ran last.
        known: what the journal is to say of the study from now on.
    """
    if changed:
        journal.append({"event": "change", "changes": {path: [old, new] for path, old, new in changed}})
    before = last(recorder.folder / JOURNAL, "study") if changed else known
    journal.append({**(before or {}), "event": "study", "time": time.time()})
    for trial, verdict in verdicts.items():
        recorder.finish(trial, verdict)
    if changed:
        journal.append({"event": "study", **known})
    for ended in recorder.asktell.trials:
        if ended.state != "RUNNING":
            recorder.tidy(ended.number)


class Workers(NamedTuple):
    """What all actors have in common.

    Args:
        readings: `module:function`, what a trial runs.
        corpus: put into the object store once, mapped by every actor without a copy.
        reused: whether an actor takes one trial after another.
        mirror: where trials keep a copy of their folders; None keeps none.
    """

    readings: str
    corpus: text.Corpus | None
    reused: bool
    mirror: str | None = None


def searched(
    recorder: Recorder,
    view: View,
    signals: Signals,
    meter: Meter,
    workers: Workers,
    address: str | None,
    left: int,
) -> None:
    """Start Ray, run every trial that is left, stop Ray.

    Raises:
        FlowsearchError: Ray or the disk gave up.
    """
    space, folder = recorder.asktell.space, recorder.folder
    with machines(address, space.resources, left) as there:
        signals.install()  # Ray has put its own handlers in place
        if there.dashboard:
            view.note(f"Ray dashboard: {there.dashboard} (its token: ray get-auth-token)")
        gauges = Gauges(recorder.asktell)
        recorder.watcher = Watchers([recorder.watcher, gauges])
        drain = Drain(recorder, view, signals, meter)
        beats: list[Callable[[], None]] = [drain, view.tick, gauges.tick, Snapshots(folder, view)]
        try:
            with view:
                if signals.received is None:
                    with signals.insisting():
                        tune(recorder, beats, drain.is_over, workers, there.concurrent)
        except KeyboardInterrupt:
            view.note("stopped at once")
        except Exception as error:
            if recorder.error:
                raise recorder.error from error
            if refuses(error):
                raise
            (folder / "error.txt").write_text(traceback.format_exc())
            raise FlowsearchError(
                f"the search stopped: {_last_line(error)} ({folder / 'error.txt'}); --resume goes on"
            ) from error
        finally:
            shutil.rmtree(folder / RAY, ignore_errors=True)


def tune(
    recorder: Recorder,
    beats: Sequence[Callable[[], None]],
    is_over: Callable[[], bool],
    workers: Workers,
    concurrent: int,
) -> None:
    """Ray Tune, told to do what it does well: place trials on machines, one after another in the same actors.

    Args:
        recorder: whose search it is.
        beats: called several times a second.
        is_over: whether trials are to stop in the middle of an epoch.
        workers: what trials are made of.
        concurrent: trials at once, at most.
    """
    from ray import tune as ray_tune

    from flowsearch.search.scheduler import RecordingScheduler
    from flowsearch.search.searcher import StudySearcher
    from flowsearch.search.trainable import TrialActor
    from flowsearch.search.tuning import Heartbeat, Stop

    space, folder = recorder.asktell.space, recorder.folder
    resources = space.resources
    shared = {"readings": workers.readings, "threads": max(1, int(resources.cpus_per_trial))}
    if workers.mirror is not None:
        shared["mirror"] = (workers.mirror, f"{space.study}/trials")
    if workers.corpus is not None:
        shared["corpus"] = text.to_arrow(workers.corpus)
    actor = ray_tune.with_resources(
        ray_tune.with_parameters(TrialActor, **shared),
        {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial},
    )
    actor.__qualname__ = TrialActor.__qualname__  # the name of its class in Ray's dashboard
    ray_tune.Tuner(
        actor,
        tune_config=ray_tune.TuneConfig(
            search_alg=StudySearcher(recorder),
            scheduler=RecordingScheduler(recorder),
            num_samples=-1,
            max_concurrent_trials=concurrent,
            reuse_actors=workers.reused,
            trial_name_creator=lambda trial: trial.config["task"].name,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=ray_tune.RunConfig(
            name=space.study,
            storage_path=str(folder / RAY),
            stop=Stop(is_over),
            callbacks=[Heartbeat(beats)],
            checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    ).fit()


class Snapshots:
    """Writes the study's Parquet files now and then, so that others can read it quickly while it runs.

    1. A disk that refuses is no reason to stop: the journal has everything, and will say so if it is refused too.
    """

    def __init__(self, folder: Path, view: View) -> None:
        self._folder, self._view = folder, view
        self._due = time.monotonic() + COMPACT_EVERY

    def __call__(self) -> None:
        """Write them if it is time."""
        began = time.monotonic()
        if began >= self._due:
            try:
                compact(self._folder)
            except OSError as error:
                self._view.note(f"{self._folder}: tables not written, the journal is whole: {error.strerror or error}")
            took = time.monotonic() - began
            self._due = began + took + max(COMPACT_EVERY, 20 * took)


class Drain:
    """Ends a search gently once a signal has come or the budget is spent: nothing more is handed out, and every trial
    stops at its next report, which comes after its checkpoint. What has not got there when time is up stops too:
    `DRAIN` seconds after a signal, or at the end of the budget.

    Args:
        recorder: whose search it is.
        view: is told once.
        signals: what has come.
        meter: of the budget.
    """

    def __init__(self, recorder: Recorder, view: View, signals: Signals, meter: Meter) -> None:
        self._recorder, self._view, self._signals, self._meter = recorder, view, signals, meter
        self._until = math.inf

    def __call__(self) -> None:
        """Begin if there is reason to."""
        if self._signals.received is not None:
            self._on_signal(self._signals.received)
        elif not self._recorder.draining and not self._meter.is_open():
            self._recorder.draining = True
            self._view.note("the budget is spent: trials go on to their next checkpoint")

    def _on_signal(self, received: int) -> None:
        if self._until < math.inf:
            return
        self._recorder.draining = True
        self._until = time.monotonic() + DRAIN
        name = signal.Signals(received).name
        self._view.note(f"{name}: trials go on to their next checkpoint, for {DRAIN:g} s at most; again stops at once")

    def is_over(self) -> bool:
        """Whether time is up."""
        return time.monotonic() >= self._until or self._meter.is_over()


class Signals:
    """SIGINT and SIGTERM, from `with` until the end of the block: the first asks the search to stop, the second
    insists.

    1. Trials that were running stay unfinished in the journal, so that they go on when the study is resumed.
    2. A second signal cuts short only what may be cut short (`insisting`): not Ray's own shutdown, which takes a
       second.
    3. Outside the main thread Python allows no handlers, and signals do what they do there.
    """

    NAMES = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None
        self._may_raise = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        self._before = {name: signal.getsignal(name) for name in self.NAMES}
        self.install()
        return self

    def __exit__(self, *error: object) -> None:
        for name, handler in self._before.items():
            with suppress(ValueError):
                signal.signal(name, handler)

    def install(self) -> None:
        """Put the handlers in place, again."""
        if threading.current_thread() is threading.main_thread():
            for name in self.NAMES:
                signal.signal(name, self._on_signal)

    @contextmanager
    def insisting(self) -> Iterator[None]:
        """In this block a second signal raises KeyboardInterrupt."""
        self._may_raise = True
        try:
            yield
        finally:
            self._may_raise = False

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self.received is not None and self._may_raise:
            raise KeyboardInterrupt
        self.received = self.received or signum


STRANDED = Verdict("FAIL", "its configuration or its corpus was changed while it ran")


def exists(folder: Path) -> bool:
    """Whether there is a study to resume."""
    return (folder / JOURNAL).exists()


def check_folder(folder: Path, *, resume: bool) -> None:
    """Refuse to overwrite a study, or to resume one that is not there.

    Raises:
        StudyError: with what to do instead.
    """
    is_there = exists(folder)
    if is_there and not resume:
        raise StudyError(f"{folder}: this study exists; --resume goes on with it, study=NAME starts another")
    if resume and not is_there:
        raise StudyError(f"{folder}: no study to resume; without --resume it starts")


@contextmanager
def claimed(folder: Path, *, resume: bool) -> Iterator[None]:
    """Be the only driver of a study.

    1. The folder is checked again: while this driver loaded its corpus, another may have begun the study and died.

    Raises:
        StudyError: another driver has the study, or had it since.
    """
    with locked(folder):
        check_folder(folder, resume=resume)
        yield


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into one line that says what is safe.

    Raises:
        FlowsearchError: it refused.
    """
    try:
        yield
    except OSError as error:
        if not refuses(error):
            raise
        raise refused(folder, error) from error


def load_corpus(space: Space) -> text.Corpus:
    """The one corpus of a study.

    Raises:
        SpaceError: the corpus is a range; ELBOs of different corpora cannot be compared.
        CorpusError: it cannot be loaded.
    """
    chosen = {f"data.{key}" for key in CORPUS_KEYS}
    for name in space.names:
        if any(name == key or name.startswith(f"{key}.") for key in chosen):
            raise SpaceError(f"{space.file}: {name}: a range; expected one corpus per study")
    for name, row in space.search.rows.items():
        for key in row:
            if any(key == prefix or key.startswith(f"{prefix}.") for prefix in chosen):
                raise SpaceError(f"{space.file}: search.rows.{name}.{key}; expected one corpus per study")
    choice, *options = (space.tree["data"][key] for key in CORPUS_KEYS)
    return text.load(choice, **dict(zip(CORPUS_KEYS[1:], options, strict=True)))


def facts(space: Space, corpus: text.Corpus | None) -> dict[str, Any]:
    """What the journal says of a study as a whole."""
    points, budget = size(space), space.search.budget
    known: dict[str, Any] = {
        "space_hash": space.hash,
        **provenance(space),
        **goals.facts(space.search),
        "grid_trials": None if points is None else points * int(space.search.seeds),
        "budget": budget and budget.model_dump(),
    }
    if corpus is not None:
        known |= {
            "corpus": corpus.name,
            "corpus_checksum": corpus.checksum,
            "vocabulary_size": len(corpus.vocabulary),
            "tokens_per_document": {name: split.tokens_per_document for name, split in corpus.splits.items()},
            **{name: value for name, value in corpus.facts.items() if name in ("entropy", "information")},
        }
    return known


def code() -> dict[str, str | None]:
    """Which code this is."""
    return {"version": version("flowsearch"), "commit": commit()}


def provenance(space: Space) -> dict[str, Any]:
    """Where a result comes from: seed, versions, commit, machine."""
    return {
        "seed": sampler_seed(space),
        "versions": {name: version(name) for name in ("flowsearch", "optuna", "ray", "torch")},
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def commit() -> str | None:
    """The git commit of this package's source, `-dirty` if it was changed since; None outside a checkout."""
    tracked = _git("ls-files", "--error-unmatch", __file__)
    return _git("describe", "--always", "--dirty", "--abbrev=40") if tracked else None


def _git(*arguments: str) -> str | None:
    """What git says about this package's folder; None if it says nothing or is not there."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=10, text=True)  # noqa: S603  fixed words only
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def described(space: Space) -> str:
    """`space.yaml`: the space as it is run, and where it comes from in comment lines above."""
    lines = [f"# space_hash: {space.hash}"]
    lines += [f"# {name}: {value}" for name, value in flattened(provenance(space))]
    return "\n".join([*lines, space.text()])


def plan(space: Space, corpus: text.Corpus, folder: Path) -> Iterator[str]:
    """What a study would do, in lines."""
    search = AskTell(space, sampler_seed(space))
    points = size(space)
    pruner = space.search.pruner.name if space.search.pruner else "no pruner"
    per_document = corpus.splits["test"].tokens_per_document
    documents = ", ".join(f"{len(split)} {name}" for name, split in corpus.splits.items())
    resources = space.resources
    yield f"study {space.study}, in {folder}"
    yield f"space {space.hash[:12]}: {len(space.names)} parameters, " + (
        "continuous" if points is None else f"{points} points"
    )
    yield from (f"  {name}" for name in space.names)
    yield (
        f"{search.searching} trials: {search.configurations} configurations, {space.search.seeds} seed(s) each; "
        f"sampler {space.search.sampler.name}, {pruner}; {len(space.search.first)} given"
    )
    yield from goals.planned(space.search)
    if space.search.confirm:
        best, seeds = space.search.confirm.best, space.search.confirm.seeds
        yield f"then {search.total - search.searching} trials to confirm the best {best}, {seeds} fresh seed(s) each"
    yield (
        f"corpus {corpus.name}: {documents} documents, {len(corpus.vocabulary)} words, "
        f"{per_document:.4f} tokens per test document"
    )
    yield (
        f"resources: {resources.cpus_per_trial:g} CPU and {resources.gpus_per_trial:g} GPU per trial, "
        + (f"{resources.concurrent} at once" if resources.concurrent else "as many at once as fit")
    )
    if space.search.budget:
        limits = space.search.budget.model_dump(exclude_none=True).items()
        yield "budget: " + ", ".join(f"{hours:g} {name.replace('_', '-')}" for name, hours in limits)
    yield from told(space, corpus)
    yield "dry run: nothing was started"


def concluded(search: AskTell, folder: Path, signals: Signals, meter: Meter, console: Console) -> int:
    """Say how a study ended, and give the exit code."""
    lines = Lines(console)
    count = Counter(trial.state for trial in search.trials)
    done = sum(count[state] for state in ("COMPLETE", "PRUNED", "FAIL"))
    states = ", ".join(f"{count[state]} {state}" for state in ("COMPLETE", "PRUNED", "FAIL") if count[state])
    lines.note(f"{search.space.study}: {done} of {search.total} trials ended" + (f" ({states})" if states else ""))
    for line in goals.concluded(search, spelled):
        lines.note(line)
    for line in confirmed(search):
        lines.note(line)
    lines.note(f"results in {folder}")
    if meter.refused is not None and done < search.total:
        lines.note(f"{meter.refused}; a larger search.budget and --resume go on")
    if signals.received is not None:
        lines.note(f"stopped by {signal.Signals(signals.received).name}; --resume goes on")
        return 128 + signals.received
    if not count["COMPLETE"]:
        reasons = Counter(trial.reason for trial in search.trials if trial.state == "FAIL").most_common(1)
        lines.note("no trial completed" + "".join(f"; {times} failed with: {reason}" for reason, times in reasons))
        return 1
    return 0


def confirmed(search: AskTell) -> Iterator[str]:
    """`  confirmed  VAE + IAF(k=2)  -ELBO 38.21 nats/doc over 3 fresh seeds`, the best configuration first."""
    found: dict[Any, list[Trial]] = {}
    for trial in search.of(CONFIRM):
        if trial.state == "COMPLETE":
            found.setdefault(identity(trial.params), []).append(trial)
    means = [(fmean(trial.value or 0.0 for trial in trials), trials) for trials in found.values()]
    for mean, trials in sorted(means, key=lambda pair: -pair[0]):
        yield f"  confirmed  {trials[0].label}  {spelled({'elbo': mean})} over {len(trials)} fresh seeds"


def _last_line(error: BaseException) -> str:
    return str(error).strip().rpartition("\n")[2] or type(error).__name__

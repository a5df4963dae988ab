"""The faults: each strikes a study a number of times, lets it go on, and says in a row what that cost."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pty
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import toys
from calls import Act, Fail, calls, half_and_kill, kill

from flowsearch.errors import FlowsearchError
from flowsearch.report import report
from flowsearch.results import load, read, repair
from flowsearch.results.store import JOURNAL, METRICS, TRIALS
from flowsearch.search.reaper import descendants, processes
from flowsearch.search.space import Space
from flowsearch.search.study import load_corpus

HERE = Path(__file__).parent
PATHS = os.pathsep.join([str(HERE), str(HERE.parent / "search"), str(HERE.parents[1])])
CLOCKS = {"seconds", "tokens_per_second", "peak_memory"}
PATIENCE = 180.0
"""Seconds that a process of ours may take for anything."""
ORPHANED = 30.0
"""Seconds after which a process of a driver that is gone is an orphan."""
SECTIONS: dict[str, Any] = {
    "search": {"trials": 3, "pruner": {"ASHA": {"reduction_factor": 2}}},
    "training": {"epochs": 4},
}

Table = Mapping[Any, Any]


@dataclass
class Row:
    """What a fault cost.

    Args:
        fault: its name.
        times: it struck.
        lost: rows of metrics that were acknowledged and are not there, or are not what they were.
        doubled: epochs that the journal has twice.
        redone: epochs trained again.
        allowed: epochs that may be: one per trial that was running, each time.
        running: trials left RUNNING.
        orphans: processes left 30 s after.
        equal: whether the final tables are those of the undisturbed study.
        note: anything else.
    """

    HEADINGS: ClassVar = ("fault", "times", "lost", "doubled", "redone", "RUNNING", "orphans", "table", "note")

    fault: str
    times: int = 0
    lost: int = 0
    doubled: int = 0
    redone: int = 0
    allowed: int = 0
    running: int = 0
    orphans: int = 0
    equal: bool = True
    note: str = ""

    @property
    def is_harmless(self) -> bool:
        """Whether nothing was lost."""
        spoiled = self.lost + self.doubled + self.running + self.orphans
        return not spoiled and self.redone <= self.allowed and self.equal

    def cells(self) -> list[str]:
        """For a table."""
        counts = (self.times, self.lost, self.doubled, f"{self.redone} of {self.allowed}", self.running, self.orphans)
        return [self.fault, *map(str, counts), "equal" if self.equal else "DIFFERENT", self.note]

    def judge(self, folder: Path, truth: Table, acknowledged: Table) -> None:
        """Compare a study that has ended with the undisturbed one, and with what it had acknowledged before."""
        found = table(folder)
        self.equal &= found == truth
        self.lost += sum(found.get(key) != value for key, value in acknowledged.items())
        self.running += sum(trial.state == "RUNNING" for trial in load(folder).trials.values())
        reports = [event for event in read(folder / JOURNAL).events if event["event"] == "report"]
        epochs = [(event["trial"], event["epoch"], len(event["readings"])) for event in reports]
        self.doubled += len(epochs) - len(set(epochs))


def table(folder: Path) -> dict[Any, Any]:
    """Every trial and every row of a study, clocks aside."""
    study = load(folder)
    trials = {
        number: (t.state, t.reason, t.label, t.seed, t.best_epoch, t.phase, tuple(sorted(t.params.items())))
        for number, t in study.trials.items()
    }
    names = sorted(set(study.metrics.values) - CLOCKS)
    columns = [study.metrics.values[name].tolist() for name in names]
    keys = zip(study.metrics.trial.tolist(), study.metrics.epoch.tolist(), study.metrics.split.tolist(), strict=True)
    rows = {key: repr(list(zip(names, values, strict=True))) for key, *values in zip(keys, *columns, strict=True)}
    return {**trials, **rows}


def recorded(folder: Path) -> dict[Any, Any]:
    """The rows that a study has acknowledged."""
    return {key: value for key, value in table(folder).items() if isinstance(key, tuple)} if begun(folder) else {}


def heard(folder: Path) -> dict[Any, Any]:
    """The rows that a study had acknowledged when it last lost a worker or a node."""
    lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
    last = max(place for place, line in enumerate(lines) if json.loads(line)["event"] == "lost")
    with tempfile.TemporaryDirectory() as then:
        (Path(then) / JOURNAL).write_bytes(b"".join(lines[:last]))
        return recorded(Path(then))


def begun(folder: Path) -> bool:
    """Whether there is a study to resume."""
    return (folder / JOURNAL).exists()


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Variables for this process and those it starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def undisturbed(folder: Path, toy: Space) -> tuple[dict[Any, Any], list[str]]:
    """The tables of a study that nothing happens to, and the calls by which it was written."""
    with calls() as seen:
        assert toys.drive(toy, folder, resume=False) == 0
    return table(folder), seen


def struck(toy: Space, folder: Path, log: Path, at: int, act: Act) -> None:
    """In a process of its own: a study in which something happens at a call."""
    os.environ[toys.LOG] = str(log)
    with calls(at, act):
        toys.drive(toy, folder, resume=begun(folder))


def commit_points(count: int, folder: Path, seed: int) -> Row:
    """`kill -9` before and in the middle of a write, fsync, rename or removal of the driver or of a checkpoint: all of
    them if `count` is 0."""
    toy, log = toys.space(folder, **SECTIONS), folder / "epochs"
    truth, seen = undisturbed(folder / "whole", toy)
    points = [(at, act) for at in range(len(seen)) for act in (kill, half_and_kill)]
    chosen = random.Random(seed).sample(points, min(count or len(points), len(points)))
    row = Row("kill -9 at a commit point", note=f"{len(seen)} calls, before and within")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["faults"])
    with environment(PYTHONPATH=PATHS, **{toys.LOG: str(log)}):
        for at, act in chosen:
            study = folder / f"study-{at}-{act.__name__}"
            process = context.Process(target=struck, args=(toy, study, log, at, act))
            process.start()
            process.join(PATIENCE)
            assert process.exitcode == -signal.SIGKILL, (at, act, process.exitcode)
            acknowledged = recorded(study)
            assert toys.drive(toy, study, resume=begun(study)) == 0
            row.judge(study, truth, acknowledged)
            row.times, row.allowed, row.redone = row.times + 1, row.allowed + 1, row.redone + toys.redone(log)
            log.unlink()
    return row


def failing_calls(count: int, folder: Path, seed: int) -> Row:
    """Every write, fsync, rename and removal fails, one at a time, in `count` ways: EIO or ENOSPC, before anything is
    done or with half the bytes written."""
    toy, log = toys.space(folder, **SECTIONS), folder / "epochs"
    truth, seen = undisturbed(folder / "whole", toy)
    kinds = [Fail(number, halfway=halfway) for number in (errno.EIO, errno.ENOSPC) for halfway in (False, True)]
    chance = random.Random(seed)
    ways = [[act for act in kinds if name == "write" or not act.halfway] for name in seen]
    chosen = [(at, act) for at, acts in enumerate(ways) for act in chance.sample(acts, min(count, len(acts)))]
    row = Row("a write, fsync or rename fails")
    survived = 0
    with environment(**{toys.LOG: str(log)}):
        for at, act in chosen:
            study = folder / f"study-{at}-{act.number}-{act.halfway}"
            try:
                with calls(at, act):
                    survived += toys.drive(toy, study, resume=False) == 0
            except FlowsearchError as error:
                row.equal &= bool(re.search(r"(disk full|disk failed .*), \d+ rows safe; .* and --resume", str(error)))
            acknowledged = recorded(study)
            assert toys.drive(toy, study, resume=begun(study)) == 0
            row.judge(study, truth, acknowledged)
            row.times, row.allowed, row.redone = row.times + 1, row.allowed + 1, row.redone + toys.redone(log)
            log.unlink(missing_ok=True)
    row.note = f"{len(seen)} calls, EIO and ENOSPC; {survived} studies went on without them"
    return row


def full_disk(count: int, folder: Path, seed: int) -> Row:
    """The disk of a study is full somewhere on the way; then there is room."""
    toy, chance, log = toys.space(folder, **SECTIONS), random.Random(seed), folder / "epochs"
    truth, _ = undisturbed(folder / "whole", toy)
    row = Row("the disk is full")
    with environment(**{toys.LOG: str(log)}):
        for number in range(2 * count):
            if row.times == count:
                break
            with small_disk(folder / f"disk-{number}", 1024 * chance.randrange(8, 36)) as disk:
                study = disk.folder / "toy"
                try:
                    toys.drive(toy, study, resume=begun(study))
                except (FlowsearchError, OSError) as error:
                    acknowledged = recorded(study)
                    row.equal &= f"disk full, {len(acknowledged)} rows safe; make room and --resume" in str(error)
                else:  # all that it missed were tables on the way
                    row.equal &= table(study) == truth
                    log.unlink()
                    continue
                if acknowledged:
                    tables, notes = report(disk.folder, ["toy"])
                    row.equal &= bool(tables) and not notes
                disk.make_room()
                assert toys.drive(toy, study, resume=begun(study)) == 0
                row.judge(study, truth, acknowledged)
                row.times, row.allowed, row.redone = row.times + 1, row.allowed + 1, row.redone + toys.redone(log)
                row.note = disk.kind
                log.unlink(missing_ok=True)
    return row


class SmallDisk:
    """A tmpfs of some bytes or, where mounting is not permitted, a limit on the size of any file."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        self.is_mounted = subprocess.run(mount, capture_output=True).returncode == 0
        self.kind = "tmpfs" if self.is_mounted else "RLIMIT_FSIZE"
        self._limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        if not self.is_mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 8, self._limit[1]))

    def make_room(self) -> None:
        """The disk grows."""
        if self.is_mounted:
            subprocess.run(["mount", "-o", "remount,size=64m", str(self.folder)], check=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limit)

    def remove(self) -> None:
        """Nothing of it stays."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limit)
        if self.is_mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """A disk that is full soon."""
    disk = SmallDisk(folder, size)
    try:
        yield disk
    finally:
        disk.remove()


def damage(count: int, folder: Path, seed: int) -> Row:
    """Bits flip in the tables and tables are cut (`count` of both, half as many); the end of the journal is cut byte by
    byte. What is shown is right, `repair` mends it, and the cut line alone is lost. Bits flip in the middle of the
    journal of a study that was cut short: it goes on to its end, and writes down no epoch twice."""
    chance, study, toy = random.Random(seed), folder / "toy", toys.space(folder, **SECTIONS)
    truth, _ = undisturbed(study, toy)
    row = Row("flipped bits and cut files")
    good = {name: (study / name).read_bytes() for name in (TRIALS, METRICS, JOURNAL)}
    for number in range(count + count // 2):
        name = chance.choice((TRIALS, METRICS))
        data = bytearray(good[name])
        if number < count:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        else:
            del data[chance.randrange(len(data)) :]
        (study / name).write_bytes(data)
        row.equal &= table(study) == truth and bool(load(study).notes)
        if number % 20 == 0:
            mended, lost = repair(study)
            row.equal &= len(mended) == 1 and not lost and table(study) == truth and not load(study).notes
        (study / JOURNAL).write_bytes(good[JOURNAL])
        (study / name).write_bytes(good[name])
        row.times += 1
    (study / TRIALS).unlink()
    (study / METRICS).unlink()
    lines = [line for line in good[JOURNAL].splitlines(keepends=True) if b'"event":"compacted"' not in line]
    whole = b"".join(lines)
    for cut in range(1, 401):
        (study / JOURNAL).write_bytes(whole[:-cut])
        left = [line for number, line in enumerate(lines) if len(b"".join(lines[: number + 1])) <= len(whole) - cut]
        row.lost += len(left) - len(read(study / JOURNAL).events)
        row.times += 1
    starts = [place for place, line in enumerate(lines) if b'"event":"start"' in line]
    for place in [*starts, *chance.sample(range(len(lines)), len(starts))]:
        torn, flipped = bytearray(lines[place]), folder / f"flipped-{row.times}"
        torn[chance.randrange(len(torn))] ^= 1 << chance.randrange(8)
        flipped.mkdir()
        kept = [*lines[:place], bytes(torn), *lines[place + 1 : chance.randrange(place + 1, len(lines) + 1)]]
        (flipped / JOURNAL).write_bytes(b"".join(kept))
        acknowledged = recorded(flipped)
        toys.drive(toy, flipped, resume=True)
        row.judge(flipped, table(flipped), acknowledged)
        row.times += 1
    row.note = f"{count} flips, {count // 2} cuts, the journal's last 1 to 400 bytes; {2 * len(starts)} flips in it"
    return row


class Driver:
    """A driver in a process of its own, and everything that it starts.

    Args:
        arguments: of `driver.py`.
        variables: of its environment.
        terminal: whether it has one, of its own.
    """

    def __init__(self, *arguments: str, variables: Mapping[str, str], terminal: bool = False) -> None:
        known = {"PYTHONPATH": PATHS, "RAY_AUTH_MODE": "disabled", "TERM": "xterm"}
        self._terminal = pty.openpty() if terminal else None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  closed with the driver
        self.said = b""
        self._family: set[tuple[int, str]] = set()
        self._looked = 0.0
        output = self._terminal[1] if self._terminal else self._output
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "driver.py"), *arguments],
            env={**os.environ, **known, **variables},
            start_new_session=True,
            **dict.fromkeys(("stdin", "stdout", "stderr") if terminal else ("stdout", "stderr"), output),
        )
        if self._terminal:
            self.modes = termios.tcgetattr(self._terminal[1])

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait for something, or for the driver's end."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None and not reached():
            assert time.monotonic() < end, "a driver that does not get on"
            self.listen()
            if time.monotonic() > self._looked + 1:
                self.look()
            time.sleep(0.02)

    def look(self) -> None:
        """Remember every process that it has started by now."""
        self._family |= descendants([self.process.pid])
        self._looked = time.monotonic()

    def listen(self) -> None:
        """Take what it wrote to its terminal."""
        if self._terminal:
            os.set_blocking(self._terminal[0], False)
            with suppress(BlockingIOError):
                while data := os.read(self._terminal[0], 65536):
                    self.said += data
        else:
            self.said = os.pread(self._output.fileno(), 2**20, 0)  # which leaves the driver's own place alone

    def interrupt(self) -> None:
        """Ctrl-C, at the terminal: everything in its foreground hears it."""
        assert self._terminal is not None
        os.write(self._terminal[0], b"\x03")

    def ended(self) -> int:
        """Its exit code."""
        self.until(lambda: False)
        self.listen()
        return self.process.wait()

    def is_sane(self) -> bool:
        """Whether its terminal is as it was: modes and a cursor."""
        assert self._terminal is not None
        shown, hidden = self.said.rfind(b"\x1b[?25h"), self.said.rfind(b"\x1b[?25l")
        return termios.tcgetattr(self._terminal[1]) == self.modes and 0 <= hidden < shown

    def close(self) -> None:
        """Kill it and let go of its terminal."""
        self.process.kill()
        self.process.wait()
        self._output.close()
        for end in self._terminal or ():
            os.close(end)

    def orphans(self) -> int:
        """How much of what it started is left, after `ORPHANED` seconds at most."""
        end = time.monotonic() + ORPHANED
        while (left := self._family & processes().keys()) and time.monotonic() < end:
            time.sleep(0.2)
        for process, _ in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return len(left)


def reports(folder: Path) -> int:
    """Epochs that a study has reported."""
    return sum(event["event"] == "report" for event in read(folder / JOURNAL).events) if begun(folder) else 0


def dead_driver(count: int, folder: Path, seed: int) -> Row:
    """`kill -9` of the driver at random moments, again and again in one study, which is resumed each time."""
    per_study, row, chance = 10, Row("kill -9 of the driver"), random.Random(seed)
    while row.times < count:
        base = folder / f"base-{row.times}"
        base.mkdir()
        kills = min(per_study, count - row.times)
        sections = {**SECTIONS, "search": {**SECTIONS["search"], "trials": 2 + kills}}
        toy, study, log = toys.space(base, **sections), base / "toy", base / "epochs"
        truth, _ = undisturbed(base / "whole", toy)
        variables = {toys.LOG: str(log), toys.PACE: "0.15"}
        acknowledged: dict[Any, Any] = {}
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            resume = ["--resume"] if begun(study) else []
            driver = Driver(str(study), str(base / "toy.yaml"), "toys:steady", *resume, variables=variables)
            try:
                if kills:
                    reached = reports(study) + chance.randrange(1, 5)
                    early = time.monotonic() + (chance.uniform(0, 8) if chance.random() < 0.25 else PATIENCE)
                    driver.until(lambda: reports(study) >= reached or time.monotonic() > early)  # noqa: B023  called now
                    time.sleep(chance.uniform(0, 0.2))
                    driver.look()
                    driver.process.kill()
                    kills, row.times, row.allowed = kills - 1, row.times + 1, row.allowed + 1
                code = driver.ended()
            finally:
                driver.close()
            row.orphans += driver.orphans()
            acknowledged |= recorded(study)
        row.equal &= code == 0
        row.judge(study, truth, acknowledged)
        row.redone += toys.redone(log)
    return row


def dead_worker(count: int, folder: Path, seed: int) -> Row:
    """`kill -9` of workers in the middle of real training, two at once."""
    row, chance = Row("kill -9 of a worker"), random.Random(seed)
    trials = count // 2 + 1
    search = {"trials": trials + 1, "sampler": "Random"}
    toy = toys.space(folder, search=search, training={"epochs": 4}, resources={"concurrent": 2, "max_failures": 3})
    doomed = [(trial, epoch) for trial in range(trials) for epoch in (1, 2)][:count]
    plan = {str(trial): [epoch for number, epoch in doomed if number == trial] for trial, _ in doomed}
    chance.shuffle(doomed)
    torch.set_num_threads(1)
    assert toys.drive(toy, folder / "whole", resume=False, readings=toys.mortal, corpus=load_corpus(toy)) == 0
    log = folder / "epochs"
    variables = {toys.PLAN: json.dumps(plan), toys.LOG: str(log), "OMP_NUM_THREADS": "1"}
    driver = Driver(str(folder / "toy"), str(folder / "toy.yaml"), "toys:mortal", variables=variables)
    try:
        assert driver.ended() == 0, driver.said.decode()
    finally:
        driver.close()
    row.orphans += driver.orphans()
    row.judge(folder / "toy", table(folder / "whole"), heard(folder / "toy"))
    attempts = {event["trial"]: event["attempt"] for event in started(folder / "toy")}
    row.times = sum(event["event"] == "lost" for event in read(folder / "toy" / JOURNAL).events)
    row.allowed, row.redone = row.times, toys.redone(log)
    untouched = [trial for trial in attempts if str(trial) not in plan]
    row.equal &= all(attempts[trial] == 1 for trial in untouched) and row.times == count
    row.note = f"real training, bit for bit; {len(untouched)} trial(s) untouched"
    return row


def started(folder: Path) -> list[dict[str, Any]]:
    """The start events of a study, in order."""
    return [event for event in read(folder / JOURNAL).events if event["event"] == "start"]


def lost_node(count: int, folder: Path, seed: int) -> Row:
    """One of two nodes dies while its trial runs; the trial goes on at the other."""
    row, chance = Row("a node dies"), random.Random(seed)
    resources = {"concurrent": 2, "max_failures": 0}
    for number in range(count):
        base = folder / str(number)
        base.mkdir()
        toy = toys.space(base, search={"trials": 4, "sampler": "Random"}, resources=resources, training={"epochs": 6})
        truth, _ = undisturbed(base / "whole", toy)
        program = Path(__file__).with_name("nodes.py")
        arguments = [str(base / "toy"), str(base / "toy.yaml"), str(chance.randrange(2, 8))]
        log = base / "epochs"
        variables = {"PYTHONPATH": PATHS, "RAY_AUTH_MODE": "disabled", toys.PACE: "0.3", toys.LOG: str(log)}
        done = subprocess.run(
            [sys.executable, str(program), *arguments], env={**os.environ, **variables}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        row.judge(base / "toy", truth, heard(base / "toy"))
        causes = [event["cause"] for event in read(base / "toy" / JOURNAL).events if event["event"] == "lost"]
        row.times, row.allowed, row.redone = row.times + 1, row.allowed + 1, row.redone + toys.redone(log)
        row.equal &= causes == ["node"]
    return row


def signals(count: int, folder: Path, seed: int) -> Row:
    """Ctrl-C at a terminal and SIGTERM drain a study; two of them stop it at once. Then it is resumed."""
    row, chance = Row("signals"), random.Random(seed)
    for number in range(count):
        base = folder / str(number)
        base.mkdir()
        toy, study, log = toys.space(base, **SECTIONS), base / "toy", base / "epochs"
        truth, _ = undisturbed(base / "whole", toy)
        way = WAYS[number % len(WAYS)]
        variables = {toys.LOG: str(log), toys.PACE: "0.5" if way.drains else "60"}
        driver = Driver(str(study), str(base / "toy.yaml"), "toys:steady", "--live", variables=variables, terminal=True)
        try:
            driver.until(lambda: log.exists() and (not way.drains or reports(study) >= 2))  # noqa: B023
            time.sleep(chance.uniform(0, 0.5))
            began = time.monotonic()
            way.send(driver)
            code = driver.ended()
            row.equal &= code == way.code and driver.is_sane() and time.monotonic() - began < 30
            row.equal &= b"Traceback" not in driver.said
        finally:
            driver.close()
        row.orphans += driver.orphans()
        row.times, row.allowed = row.times + 1, row.allowed + (not way.drains)
        acknowledged = recorded(study)
        row.equal &= any(trial.state == "RUNNING" for trial in load(study).trials.values())
        with environment(**{toys.LOG: str(log)}):
            assert toys.drive(toy, study, resume=True) == 0
        row.judge(study, truth, acknowledged)
        row.redone += toys.redone(log)
    row.note = "drained: nothing redone; modes and cursor of the terminal restored"
    return row


@dataclass
class Way:
    """A way to ask a driver to stop: what is sent, whether trials reach their checkpoint, and the exit code."""

    send: Callable[[Driver], None]
    drains: bool
    code: int


def twice(driver: Driver) -> None:
    """Ctrl-C, and again once the first was heard."""
    driver.interrupt()
    driver.until(lambda: b"again stops at once" in driver.said)
    driver.interrupt()


WAYS = (
    Way(Driver.interrupt, drains=True, code=130),
    Way(twice, drains=False, code=130),
    Way(lambda driver: driver.process.terminate(), drains=True, code=143),
)

Fault = Callable[[int, Path, int], Row]
FAULTS: dict[str, Fault] = {
    "driver": dead_driver,
    "commit": commit_points,
    "worker": dead_worker,
    "node": lost_node,
    "calls": failing_calls,
    "disk": full_disk,
    "damage": damage,
    "signals": signals,
}
ON_RAY = ("driver", "worker", "node", "signals")
COUNTS: dict[str, dict[str, int]] = {
    name: dict(zip(FAULTS, counts, strict=True))
    for name, counts in {"small": (5, 40, 3, 1, 1, 3, 100, 3), "large": (50, 0, 30, 5, 4, 20, 400, 20)}.items()
}
"""How often each fault strikes, in the order of `FAULTS`; commit points: 0 is all; calls: in how many ways each."""

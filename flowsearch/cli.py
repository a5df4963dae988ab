"""`flowsearch`: parse, call, print. Every command imports what it needs when it runs, so that `--help` is quick.

Exit codes: 0 done; 1 the study could not finish; 2 bad input; 3 results incomplete or damaged, what is good is still
shown; 130 and 143 stopped by a signal. `Commands.invoke` is the one place where an error becomes a line and a code.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from flowsearch.errors import BadInput, Damaged, FlowsearchError

Split = Literal["valid", "test"]
FormatName = Literal["table", "markdown", "latex", "csv", "json"]
TableName = Literal["study", "times", "pareto"]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="The folder that holds the studies.")]


def _here(given: str | Path) -> Path:
    """The folder of results that was named; from an address, what a report reads is fetched first."""
    if "://" not in str(given):
        return Path(given)
    import atexit
    import shutil
    from tempfile import mkdtemp

    from flowsearch.results.mirror import fetch, place

    folder = Path(mkdtemp(prefix="flowsearch-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    fetch(place(str(given)), [], folder, heavy=False)
    return folder


Shown = Annotated[
    Path, typer.Option("--results", metavar="DIR", help="The folder, or address, of the studies.", parser=_here)
]


class Commands(TyperGroup):
    """The commands, with every error of ours turned into one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        1. A `FlowsearchError` is one red line, `flowsearch: <message>`, and its exit code.
        2. Ctrl-C ends with 130.
        3. A reader that went away, as `| head` does, is no error and prints nothing.
        4. What the system refuses (a full disk, a folder that may not be read, memory) is one line and 1.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except FlowsearchError as error:
            complain(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except OSError as error:
            complain(f"{error.filename or 'system'}: {error.strerror or error}")
            raise typer.Exit(1) from None
        except MemoryError as error:
            complain(f"out of memory: {error}" if str(error) else "out of memory")
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Search hyperparameters of text VAEs with normalizing-flow posteriors.",
)


def main() -> None:
    """The entry point of `flowsearch` and of `python -m flowsearch`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app(prog_name="flowsearch")


def complain(message: str) -> None:
    """One line on stderr, red on a terminal unless NO_COLOR is set, with nothing in it that a terminal acts on."""
    from flowsearch.report.escapes import plain

    line = f"flowsearch: {plain(message)}"
    is_red = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    typer.echo(f"\x1b[31m{line}\x1b[0m" if is_red else line, err=True)


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        typer.echo(f"flowsearch {version('flowsearch')}")
    except PackageNotFoundError:
        typer.echo("flowsearch, not installed")
    raise typer.Exit


@app.callback()
def _flowsearch(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A search space, such as search_spaces/smoke.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key=value", help="Values that replace the file's.")
    ] = None,
    results: Results = Path("results"),
    address: Annotated[
        str | None, typer.Option(metavar="ADDR", help="Of a Ray cluster; without it this machine is used.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a study that exists.")] = False,
    resume_if_exists: Annotated[
        bool, typer.Option("--resume-if-exists", help="The same if it does: for jobs that are started again.")
    ] = False,
    allow_change: Annotated[
        bool, typer.Option("--allow-change", help="Continue it although its space, code or corpus has changed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the space, print what would run, stop.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="One line per event instead of a live view.")] = False,
    log: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Copy readings to tensorboard, mlflow or wandb; may be given again."),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Keep a copy of the study, checkpoints too, at s3://, gs:// or file://."),
    ] = None,
) -> None:
    """Run a study, or continue one."""
    from flowsearch.search import study

    if ":/" in str(results):
        raise BadInput(f"--results: {results}; expected a folder; --mirror keeps a copy at an address")

    code = study.run(
        file,
        overrides or [],
        results=results,
        address=address,
        resume=None if resume_if_exists and not resume else resume,
        allow_change=allow_change,
        dry_run=dry_run,
        plain=plain,
        log=log or [],
        mirror=mirror,
    )
    raise typer.Exit(code)


_BETWEEN = "\x1f"


class Pairs(TyperCommand):
    """A command whose `--compare` takes two values each time, which no annotation of typer says."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the two values into one before they are parsed; `_pair` takes them apart."""
        joined, rest = [], list(args)
        while rest and rest[0] != "--":
            joined.append(rest.pop(0))
            if joined[-1] == "--compare" and len(rest) > 1 and not rest[1].startswith("--"):
                joined.append(_BETWEEN.join((rest.pop(0), rest.pop(0))))
        parsed: list[str] = super().parse_args(ctx, joined + rest)
        return parsed


def _pair(value: str) -> tuple[str, str]:
    first, between, second = value.partition(_BETWEEN)
    if not between:
        raise BadInput(f"--compare: '{value}'; expected two rows, as in --compare A B")
    return first, second


@app.command(cls=Pairs)
def report(
    studies: Annotated[list[str] | None, typer.Argument(metavar="STUDY", help="None means all.")] = None,
    results: Shown = Path("results"),
    split: Annotated[Split, typer.Option(help="Whose values to show, at the epoch that validation chose.")] = "test",
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Group by a parameter, such as model.posterior; may be given again."),
    ] = None,
    style: Annotated[FormatName, typer.Option("--format", help="How to print.")] = "table",
    everything: Annotated[bool, typer.Option("--all", help="List pruned and failed configurations, too.")] = False,
    table: Annotated[
        TableName, typer.Option(help="Means; training times and steps; or the fronts of -ELBO and KL or MI.")
    ] = "study",
    baseline: Annotated[
        str | None, typer.Option(metavar="ROW", help="Which row the times are relative to; VAE without it.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="NAME", help="Beside published tables, such as thesis.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(metavar="A B", help="Two rows, paired by document and by seed; may be given again."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw -ELBO against KL and MI of one study, as SVG or PNG.")
    ] = None,
) -> None:
    """Print a table per study: a row per configuration, means over its seeds."""
    from flowsearch import report as room

    tables, notes = room.report(
        results,
        studies or [],
        by=by or [],
        compare=[_pair(value) for value in compare or []],
        split=split,
        everything=everything,
        table=table,
        baseline=baseline,
        published=reference,
    )
    if plot is not None:
        room.plot(results, studies or [], plot, split=split)
    typer.echo(room.FORMATS[style](tables))
    _finish(notes)


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(metavar="STUDY", help="None means all, a line each.")] = None,
    results: Shown = Path("results"),
) -> None:
    """Show what a running or finished study is doing."""
    import time

    from flowsearch.report import FORMATS, folders, overview, running
    from flowsearch.report import status as status_

    found = [status_(folder) for folder in folders(results, [study] if study else [])]
    now = time.time()
    tables = [running(one, now) for one in found] if study else [overview(found, now)]
    typer.echo(FORMATS["table"](tables))
    _finish([note for one in found for note in one.study.notes])


@app.command()
def dashboard(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Running or finished.")],
    results: Results = Path("results"),
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8080,
    public: Annotated[bool, typer.Option("--public", help="Let others in, too: nobody is asked who they are.")] = False,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Keep the study in this database instead, for anybody's optuna-dashboard."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="With --storage: copy what there is, and end.")] = False,
) -> None:
    """Open optuna-dashboard on a study, and follow it as it runs."""
    from flowsearch.results import find
    from flowsearch.search import dashboard as room
    from flowsearch.search.follow import Follower

    if storage is not None:
        _keep(find(results, study), storage, once=once)
        return
    if once:
        raise BadInput("--once: it copies into a database; expected --storage URL beside it")
    room.check(host, public=public)
    with room.server(Follower(find(results, study)), host, port, public=public) as server:
        shown = f"[{host}]" if ":" in host else host
        typer.echo(f"optuna-dashboard of {study}: http://{shown}:{server.server_port}/dashboard (Ctrl-C ends it)")
        server.serve_forever()


def _keep(folder: Path, storage: str, *, once: bool) -> None:
    """Keep a study in a database until Ctrl-C."""
    from contextlib import closing

    from flowsearch.search.database import kept, shown

    with closing(kept(folder, storage)) as said:
        typer.echo(next(said))
        if once:
            return
        typer.echo(f"optuna-dashboard {shown(storage)} shows it; Ctrl-C ends this, not the study")
        for line in said:
            if line:
                typer.echo(line)


@app.command()
def replay(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Whose curves to decide on again.")],
    pruner: Annotated[
        list[str] | None,
        typer.Option(metavar="YAML", help="As search.pruner, such as '{ASHA: {resource: seconds}}'; may be repeated."),
    ] = None,
    results: Shown = Path("results"),
    orders: Annotated[int, typer.Option(min=1, help="Random orders of arrival.")] = 100,
    workers: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of the orders.")] = 0,
    everything: Annotated[bool, typer.Option("--all", help="Stopped trials, too, as far as they went.")] = False,
    style: Annotated[FormatName, typer.Option("--format", help="How to print.")] = "table",
) -> None:
    """Try other pruners on a study's recorded curves: what they would have saved and lost."""
    from flowsearch.report import FORMATS
    from flowsearch.report.replays import replay_table
    from flowsearch.search.replay import replay as replay_

    found = replay_(
        results, study, pruner or ["ASHA"], orders=orders, workers=workers, seed=seed, everything=everything
    )
    typer.echo(FORMATS[style]([replay_table(study, found.rows, found.caption)]))
    _finish(found.notes)


@app.command()
def repair(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="What to mend.")],
    results: Results = Path("results"),
) -> None:
    """Set damaged files of a study aside, and make anew what its journal can make."""
    from flowsearch.report.escapes import plain
    from flowsearch.results import find
    from flowsearch.results import repair as repaired

    mended, lost = repaired(find(results, study))
    for line in mended or ([] if lost else [f"{study}: nothing is damaged"]):
        typer.echo(plain(line))
    _finish(lost)


@app.command()
def data(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="A corpus: synthetic, wordnet, or a folder.")],
    root: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder that holds the corpora.")] = None,
    vocabulary_size: Annotated[int | None, typer.Option(help="Most frequent words kept, specials counted.")] = None,
    min_count: Annotated[int, typer.Option(help="Words seen fewer times in train become <unk>.")] = 1,
) -> None:
    """Show what a corpus holds: documents, tokens per document, vocabulary, checksums."""
    from flowsearch import text
    from flowsearch.report import FORMATS, corpus_table

    corpora = [text.load(name, root=root, vocabulary_size=vocabulary_size, min_count=min_count) for name in names]
    typer.echo(FORMATS["table"]([corpus_table(text.summary(corpus)) for corpus in corpora]))


@app.command()
def fetch(
    uri: Annotated[str, typer.Argument(metavar="URI", help="What --mirror was given.")],
    studies: Annotated[list[str] | None, typer.Argument(metavar="STUDY", help="None means all.")] = None,
    results: Results = Path("results"),
) -> None:
    """Bring studies back from a mirror, models and checkpoints too: to look at them, or to resume them here."""
    from flowsearch.results.mirror import fetch as fetch_
    from flowsearch.results.mirror import place

    for folder in fetch_(place(uri), studies or [], results, heavy=True):
        typer.echo(str(folder))


@app.command()
def samples(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Whose models write.")],
    trial: Annotated[int | None, typer.Option(help="One trial; without it the best of each model.")] = None,
    results: Results = Path("results"),
    root: Annotated[str | None, typer.Option(metavar="DIR", help="The folder that holds the corpora now.")] = None,
    points: Annotated[int, typer.Option(min=1, help="Points z, and test documents, per model.")] = 5,
    temperature: Annotated[float, typer.Option(min=0, help="Of sampled words; 0 takes the likeliest.")] = 1.0,
    max_words: Annotated[int, typer.Option(min=1, help="Where a document is cut.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Of points, words and the choice of documents.")] = 0,
    style: Annotated[FormatName, typer.Option("--format", help="How to print.")] = "table",
) -> None:
    """Show what a study's models write: at points z, for test documents, between them; and how much z decides."""
    from flowsearch.report import FORMATS
    from flowsearch.report.samples import chosen, sample_tables
    from flowsearch.results import find, load

    folder = find(results, study)
    found = load(folder, [])

    def directory(number: int) -> Path:
        return folder / "trials" / str(number)

    trials = chosen(found, lambda number: (directory(number) / "best.safetensors").exists(), trial)
    from flowsearch.metrics.samples import write
    from flowsearch.training.restore import restore

    corpus, written, notes = None, [], list(found.notes)
    for one in trials:
        try:
            model = restore(directory(one.number), corpus, root=root, checksum=found.facts.get("corpus_checksum"))
        except Damaged as error:
            notes.append(str(error))
            continue
        corpus = model.corpus
        wrote = write(model.vae, corpus, points=points, temperature=temperature, max_words=max_words, seed=seed)
        written.append((one, wrote))
    typer.echo(FORMATS[style](sample_tables(study, written)))
    _finish(notes)


def _finish(notes: list[str]) -> None:
    """Complain about every note; with any, what was shown is incomplete and the exit code says so."""
    for note in notes[:-1]:
        complain(note)
    if notes:
        raise Damaged(notes[-1])

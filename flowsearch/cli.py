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
from typer.core import TyperGroup

from flowsearch.errors import Damaged, FlowsearchError

Split = Literal["valid", "test"]
FormatName = Literal["table", "markdown", "latex", "csv", "json"]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="The folder that holds the studies.")]


class Commands(TyperGroup):
    """The commands, with every error of ours turned into one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        1. A `FlowsearchError` is one red line, `flowsearch: <message>`, and its exit code.
        2. Ctrl-C ends with 130.
        3. A reader that went away, as `| head` does, is no error and prints nothing.
        4. What the system refuses (a full disk, a folder that may not be read) is one line and 1.
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the space, print what would run, stop.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="One line per event instead of a live view.")] = False,
) -> None:
    """Run a study, or continue one."""
    from flowsearch.search import study

    code = study.run(
        file, overrides or [], results=results, address=address, resume=resume, dry_run=dry_run, plain=plain
    )
    raise typer.Exit(code)


@app.command()
def report(
    studies: Annotated[list[str] | None, typer.Argument(metavar="STUDY", help="None means all.")] = None,
    results: Results = Path("results"),
    split: Annotated[Split, typer.Option(help="Whose values to show, at the epoch that validation chose.")] = "test",
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Group by a parameter, such as model.posterior; may be given again."),
    ] = None,
    style: Annotated[FormatName, typer.Option("--format", help="How to print.")] = "table",
    everything: Annotated[bool, typer.Option("--all", help="List pruned and failed configurations, too.")] = False,
) -> None:
    """Print a table per study: a row per configuration, means over its seeds."""
    from flowsearch.report import FORMATS
    from flowsearch.report import report as report_

    tables, notes = report_(results, studies or [], split=split, by=by or [], everything=everything)
    typer.echo(FORMATS[style](tables))
    _finish(notes)


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(metavar="STUDY", help="None means all, a line each.")] = None,
    results: Results = Path("results"),
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


def _finish(notes: list[str]) -> None:
    """Complain about every note; with any, what was shown is incomplete and the exit code says so."""
    for note in notes[:-1]:
        complain(note)
    if notes:
        raise Damaged(notes[-1])

from __future__ import annotations

import re
from io import StringIO

from rich.console import Console
from toy_spaces import MakeSpace

from flowsearch.results import Reading
from flowsearch.search.asktell import AskTell, Verdict
from flowsearch.search.view import Lines, Picture, View

HOSTILE = "[red]\x1b[2J\x07[/] [link=http://x]\r\nVAE"


def told(view: View, search: AskTell) -> None:
    """Everything that can happen, to a trial whose label wants to be more than text."""
    for _ in range(3):
        trial = search.ask()
        assert trial is not None
        trial.label = HOSTILE
        view.started(trial)
        readings = [Reading(1, "valid", {"elbo": -38.214, "kl": 0.01, "active_units": 0.0})]
        search.report(trial.number, 1, readings, 1.0)
        view.reported(trial, 1)
        view.collapsed(trial, 1)
    for number, verdict in enumerate([Verdict("COMPLETE"), Verdict("FAIL", HOSTILE)]):
        search.finish(number, verdict)
        view.finished(search.trials[number])
    view.lost(search.trials[2], "its worker died")
    view.note(HOSTILE)
    view.tick()


def test_off_a_terminal_there_is_one_line_per_event(make_space: MakeSpace) -> None:
    out = StringIO()
    with Lines(Console(file=out, width=40)) as view:
        told(view, AskTell(make_space(search={"trials": 3}), 0))
    said = out.getvalue()
    assert "\x1b" not in said
    assert said.count("\n") == 3 * 3 + 2 + 2
    name = "[red]?[2J?[/] [link=http://x]??VAE"
    assert f"trial 0 starts: {name}, seed 0\n" in said
    assert "trial 0 epoch 1 valid: -ELBO 38.21 nats/doc, KL 0.01, AU 0\n" in said
    assert "trial 0 collapsed at epoch 1: -ELBO 38.21 nats/doc, KL 0.01, AU 0\n" in said
    assert "trial 0 COMPLETE: best -ELBO 38.21 nats/doc, KL 0.01, AU 0 at epoch 1\n" in said
    assert f"trial 1 FAIL: {name}\n" in said


def test_on_a_terminal_there_is_one_picture(make_space: MakeSpace) -> None:
    out = StringIO()
    console = Console(file=out, width=120, force_terminal=True, color_system=None)
    search = AskTell(make_space(search={"trials": 5}), 0)
    with Picture(console, search) as view:
        told(view, search)
        plain = Console(file=StringIO(), width=120)
        plain.print(view.picture())
    said = plain.file.getvalue()  # type: ignore[attr-defined]
    assert "toy: 2 of 5 trials (1 RUNNING, 1 COMPLETE, 0 PRUNED, 1 FAIL) in 0:00, about 0:0" in said
    running, best = re.split(r"\nbest *\n", said)
    assert "[red]?[2J?[/] [link=http://x]??VAE" in running
    assert running.count("38.21") == 1
    assert best.count("  38.21") == 1
    assert "trial 1 FAIL: [red]?" in said
    assert "trial 2 will start again: its worker died" in said
    assert "\x1b[2J" not in out.getvalue()

"""What is no longer as it was when a study ran last: its space, the code, its corpus.

Results of a changed study may not be comparable with each other, so resuming one is refused with every difference,
unless the user says that it is meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from flowsearch.errors import SpaceError, StudyError
from flowsearch.results.journal import last
from flowsearch.results.store import JOURNAL
from flowsearch.search.asktell import AskTell
from flowsearch.search.space import Space, load, rebuild, sections

FREE = ("resources", "search.trials", "search.confirm", "search.budget", "data.root")
"""What may change without asking: how long a study is, what it runs on, and where its text lies (which has a checksum)
change none of its trials."""

SPACE = "space.yaml"
CORPUS = "corpus"


ABSENT = "(absent)"


class Change(NamedTuple):
    """A path whose value is not what it was; `ABSENT` where there is none."""

    path: str
    before: Any
    now: Any


def changes(folder: Path, space: Space, checksum: str | None, code: Mapping[str, str | None]) -> list[Change]:
    """Everything that differs from what the study ran with last.

    1. A key that this version has and that one had not is no change while it has its default.
    2. What was not recorded cannot be compared: a checkout without git, a study without a corpus.

    Args:
        folder: of the study.
        space: that it is to go on with.
        checksum: of its corpus, or None.
        code: `version` and `commit` of this package.
    """
    known = last(folder / JOURNAL, "study") or {}
    recorded = {"version": known.get("versions", {}).get("flowsearch"), "commit": known.get("commit")}
    before = {f"code.{name}": value for name, value in recorded.items()} | {CORPUS: known.get("corpus_checksum")}
    now = {f"code.{name}": value for name, value in code.items()} | {CORPUS: checksum}
    facts = [Change(path, old, now[path]) for path, old in before.items() if None not in (old, now[path])]
    try:
        found = differences(comparable(load(folder / SPACE)), comparable(space), defaults())
    except SpaceError as error:
        found = [Change(SPACE, str(error), "what this version reads")]
    return [*found, *(change for change in facts if change.before != change.now)]


def refuse(folder: Path, changed: Sequence[Change]) -> None:
    """Stop if anything has changed.

    Raises:
        StudyError: with every difference, and what to do.
    """
    if changed:
        listed = "; ".join(f"{path} was {shown(before)} and is {shown(now)}" for path, before, now in changed)
        raise StudyError(
            f"{folder}: changed since it ran last: {listed}; --allow-change goes on with it all the same, "
            "study=NAME starts another"
        )


def stranded(folder: Path, search: AskTell, unfinished: Sequence[int], changed: Sequence[Change]) -> list[int]:
    """The unfinished trials that would go on as something other than they began as.

    Args:
        folder: of the study, its earlier space still in place.
        search: as the journal and the changed space make it.
        unfinished: numbers of trials.
        changed: what is no longer as it was.
    """
    if any(path in (CORPUS, SPACE) for path, _, _ in changed):
        return list(unfinished)
    before = load(folder / SPACE)
    return [number for number in unfinished if not _stays(before, search.space, search.trials[number].params)]


def comparable(space: Space) -> dict[str, Any]:
    """The leaves of a space by dotted path, but for those that are `FREE`."""
    return {path: value for path, value in flattened(space.resolved) if not path.startswith(FREE)}


def differences(before: Mapping[str, Any], now: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """The paths that two flat trees do not agree on, in order.

    Args:
        before: by dotted path.
        now: by dotted path.
        new: what a path has by default that `before` did not know.

    >>> differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}, {"c": 4})
    [Change(path='b', before=2, now=3)]
    """
    paths = dict.fromkeys((*before, *now))
    return [
        Change(path, before.get(path, ABSENT), now.get(path, ABSENT))
        for path in paths
        if before.get(path, new.get(path, ABSENT)) != now.get(path, ABSENT)
    ]


def flattened(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a tree by dotted path; lists are leaves.

    >>> dict(flattened({"a": {"b": 1}, "c": [2]}))
    {'a.b': 1, 'c': [2]}
    """
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flattened(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


@cache
def defaults() -> Mapping[str, Any]:
    """The leaves of base.yaml."""
    return dict(flattened(yaml.safe_load(resources.files("flowsearch").joinpath("base.yaml").read_text("utf-8"))))


def shown(value: Any) -> str:
    """A value in a message; hashes are cut to what tells them apart.

    >>> shown(ABSENT), shown(0.5), shown("a" * 40)
    ('absent', '0.5', "'aaaaaaaaaaaa...'")
    """
    if value == ABSENT:
        return "absent"
    if isinstance(value, str) and len(value) >= 40 and " " not in value:
        return repr(f"{value[:12]}...{'-dirty' if value.endswith('-dirty') else ''}")
    return f"{value!r:.80}"


def _stays(before: Space, now: Space, params: Mapping[str, Any]) -> bool:
    try:
        return _without_root(rebuild(before, params)) == _without_root(rebuild(now, params))
    except SpaceError:
        return False


def _without_root(tree: Mapping[str, Any]) -> dict[str, Any]:
    found = sections(tree)
    return {**found, "data": {**found["data"], "root": None}}

"""A study kept in a second place: what goes there comes back as it was, whoever looks in between sees nothing wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs as pafs
from typer.testing import CliRunner

from flowsearch.cli import app
from flowsearch.errors import BadInput, Damaged, StudyError
from flowsearch.results import Journal, compact, load
from flowsearch.results import mirror as module
from flowsearch.results.mirror import Mirror, Place, fetch, place, studies_at


def grow(folder: Path, epochs: int, *, finish: bool = False) -> Path:
    """A study of one trial that has reported so many epochs, one more for each that is missing."""
    (folder / "trials" / "0").mkdir(parents=True, exist_ok=True)
    known = len(load(folder).metrics) if (folder / "journal.jsonl").exists() else -1
    with Journal(folder / "journal.jsonl") as journal:
        if known < 0:
            journal.append({"event": "study", "corpus": "toy"})
            journal.append({"event": "start", "trial": 0, "params": {"objective.beta": 0.5}, "seed": 0, "label": "VAE"})
        for epoch in range(max(known, 0) + 1, epochs + 1):
            values = {"elbo": -30.0 + epoch, "kl": 2.0, "active_units": 3.0}
            journal.append(
                {"event": "report", "trial": 0, "epoch": epoch, "readings": [{"split": "valid", "values": values}]}
            )
        if finish:
            journal.append({"event": "finish", "trial": 0, "state": "COMPLETE", "seconds": 1.0})
    compact(folder)
    (folder / "space.yaml").write_text("study: toy\n")
    for name in ("last.pt", "best.safetensors", "config.json"):
        (folder / "trials" / "0" / name).write_text(f"{name} {epochs}")
    return folder


def in_memory() -> Place:
    return Place(pafs._MockFileSystem(), "bucket/studies")


def on_disk(tmp_path: Path) -> Place:
    return place((tmp_path / "second").as_uri())


def below(tmp_path: Path) -> Place:
    (tmp_path / "third").mkdir()
    return Place(pafs.SubTreeFileSystem(str(tmp_path / "third"), pafs.LocalFileSystem()), "studies")


def in_bucket(address: str, tmp_path: Path) -> Place:
    """A folder of its own in the bucket."""
    return place(address.replace("studies", tmp_path.name, 1))


@pytest.fixture(params=["memory", "disk", "subtree", "s3"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        return in_bucket(request.getfixturevalue("s3"), tmp_path)
    return {"memory": in_memory, "disk": lambda: on_disk(tmp_path), "subtree": lambda: below(tmp_path)}[request.param]()


def push(folder: Path, there: Place) -> None:
    """As a driver and a worker do."""
    Mirror(folder, there / folder.name).push()
    for trial in (folder / "trials").iterdir():
        Mirror(trial, there / folder.name / "trials" / trial.name).push()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_what_goes_there_comes_back(tmp_path: Path, there: Place) -> None:
    study = grow(tmp_path / "results" / "toy", 3, finish=True)
    push(study, there)
    assert studies_at(there) == ["toy"]
    (folder,) = fetch(there, ["toy"], tmp_path / "back", heavy=True)
    assert contents(folder) == contents(study)
    assert load(folder).notes == ()


def test_a_report_fetches_no_models(tmp_path: Path, there: Place) -> None:
    push(grow(tmp_path / "results" / "toy", 3), there)
    (folder,) = fetch(there, [], tmp_path / "back", heavy=False)
    names = {"journal.jsonl", "trials.parquet", "metrics.parquet", "space.yaml", "trials/0/config.json"}
    assert set(contents(folder)) == names


def test_only_what_has_changed_is_sent_again(tmp_path: Path, there: Place) -> None:
    study = grow(tmp_path / "results" / "toy", 1)
    mirror = Mirror(study, there / "toy")
    mirror.push()
    for name in ("space.yaml", "journal.jsonl"):
        there.fs.delete_file((there / "toy" / name).path)
    with Journal(study / "journal.jsonl") as journal:
        journal.append({"event": "note"})
    mirror.push()
    found = {info.base_name for info in there.fs.get_file_info(pafs.FileSelector((there / "toy").path))}
    assert found == {"journal.jsonl", "trials.parquet", "metrics.parquet"}


def test_a_copy_that_stops_anywhere_is_read_without_a_wrong_word(tmp_path: Path, monkeypatch: Any) -> None:
    """The network goes after each file in turn: whoever fetches then sees the journal as it was or as it is."""
    send = module._send
    for last in range(5):
        there = Place(pafs._MockFileSystem(), f"b{last}")
        study = grow(tmp_path / f"{last}" / "toy", 2)
        mirror = Mirror(study, there / "toy")
        mirror.push()
        grow(study, 5, finish=True)
        sent = []

        def stops(file: Path, to: Place, sent: list[str] = sent, last: int = last) -> None:
            if len(sent) == last:
                raise OSError("the network is gone")
            sent.append(file.name)
            send(file, to)

        monkeypatch.setattr(module, "_send", stops)
        if last < 4:
            with pytest.raises(OSError, match="network"):
                mirror.push()
        else:
            mirror.push()
        monkeypatch.setattr(module, "_send", send)
        (folder,) = fetch(there, ["toy"], tmp_path / f"back{last}", heavy=False)
        found = load(folder)
        assert found.notes == ()
        assert found.metrics.epoch.tolist() == ([1, 2] if last == 0 else [1, 2, 3, 4, 5])
        mirror.push()
        (folder,) = fetch(there, ["toy"], tmp_path / f"whole{last}", heavy=True)
        assert load(folder).metrics.epoch.tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_the_newer_of_two_copies_wins(kind: str, tmp_path: Path, s3: str) -> None:
    """A trial moved to another node and back: the checkpoint that is further is the one that is continued. A bucket
    knows whole seconds."""
    there = on_disk(tmp_path) if kind == "disk" else in_bucket(s3, tmp_path)
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, words in ((one, "epoch 3"), (other, "epoch 5")):
        Mirror(folder, there).pull()
        (folder / "last.pt").write_text(words)
        Mirror(folder, there).push()
    earlier = time.time() - 2
    os.utime(one / "last.pt", (earlier, earlier))
    Mirror(one, there).pull()
    assert (one / "last.pt").read_text() == "epoch 5"
    (one / "last.pt").write_text("epoch 6")
    again = Mirror(one, there)
    again.pull()
    assert (one / "last.pt").read_text() == "epoch 6"
    again.push()
    Mirror(tmp_path / "third", there).pull()
    assert (tmp_path / "third" / "last.pt").read_text() == "epoch 6"


def test_a_place_without_studies_is_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["fetch", (tmp_path / "tpyo").as_uri(), "--results", str(tmp_path / "back")])
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert "no studies there" in done.output


def test_a_name_from_there_cannot_leave_the_folder(tmp_path: Path) -> None:
    there = in_memory()
    push(grow(tmp_path / "results" / "toy", 1), there)
    for name in ("toy/..hidden", "toy/a b", "toy/trials/0/-rf", "toy/\u202eevil", ".ssh/journal.jsonl"):
        there.fs.create_dir(f"{there.path}/{name}".rpartition("/")[0], recursive=True)
        with there.fs.open_output_stream(f"{there.path}/{name}") as sink:
            sink.write(b"x")
    assert studies_at(there) == ["toy"]
    (folder,) = fetch(there, [], tmp_path / "back", heavy=True)
    assert not [name for name in contents(folder) if name.startswith(".") or "hidden" in name or "evil" in name]
    with pytest.raises(StudyError, match=r"no study '\.\./toy'"):
        fetch(there, ["../toy"], tmp_path / "back", heavy=True)


def test_a_study_that_is_here_is_not_written_over(tmp_path: Path) -> None:
    there = in_memory()
    push(grow(tmp_path / "results" / "toy", 1), there)
    with pytest.raises(StudyError, match="toy: exists; move it away"):
        fetch(there, ["toy"], tmp_path / "results", heavy=True)
    with pytest.raises(StudyError, match="no study 'tox'; did you mean 'toy'"):
        fetch(there, ["tox"], tmp_path / "back", heavy=True)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("results", "results: .*expected s3://BUCKET/FOLDER"),
        ("ftp://host/folder", "ftp://host/folder: .*expected s3://BUCKET/FOLDER"),
        ("s3://[bucket", r"s3://\[bucket: .*expected s3://BUCKET/FOLDER"),
        ("s3://key:secret@bucket/folder", r"s3://\.\.\.@bucket: a credential in an address"),
        ("s3://key@bucket/folder", r"s3://\.\.\.@bucket: a credential in an address"),
        ("", "expected s3://BUCKET/FOLDER"),
    ],
)
def test_an_address_that_is_none_is_one_line(uri: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        place(uri)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


BUCKETS = [("s3://b/f/?region=us-east-1", "s3", "b/f"), ("gs://b/f", "gcs", "b/f")]


@pytest.mark.parametrize(("uri", "kind", "path"), BUCKETS)
def test_buckets_are_places(uri: str, kind: str, path: str) -> None:
    try:
        found = place(uri)
    except BadInput as error:
        pytest.skip(f"this pyarrow was built without it: {error}")
    assert (found.fs.type_name, found.path) == (kind, path)


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_does_not_answer_is_damage(tmp_path: Path) -> None:
    address = "s3://bucket/x?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1"
    with pytest.raises(Damaged, match="bucket/x"):
        fetch(place(address), ["toy"], tmp_path, heavy=False)


def test_a_place_that_cannot_be_read_is_damage(tmp_path: Path, monkeypatch: Any) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(module, "_below", refuses)
    with pytest.raises(Damaged, match="no route to host"):
        fetch(in_memory(), [], tmp_path, heavy=False)


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_the_commands_read_an_address(kind: str, tmp_path: Path, s3: str) -> None:
    """`report` and `status` of a mirror show what they show of the folder; `fetch` brings it back."""
    uri = (tmp_path / "second").as_uri() if kind == "disk" else s3.replace("studies", tmp_path.name, 1)
    push(grow(tmp_path / "results" / "toy", 3, finish=True), place(uri))
    for words in (["report", "toy", "--split", "valid"], ["status", "toy"]):
        here, far = (
            CliRunner().invoke(app, [*words, "--results", str(given)]) for given in (tmp_path / "results", uri)
        )
        assert (here.exit_code, far.exit_code) == (0, 0), far.output
        strip = [line for line in here.output.splitlines() if "last event" not in line]
        assert [line for line in far.output.splitlines() if "last event" not in line] == strip
    done = CliRunner().invoke(app, ["fetch", uri, "toy", "--results", str(tmp_path / "back")])
    assert done.output == f"{tmp_path / 'back' / 'toy'}\n"
    assert contents(tmp_path / "back" / "toy") == contents(tmp_path / "results" / "toy")
    refused = CliRunner().invoke(app, ["run", "x.yaml", "--results", uri])
    assert refused.exit_code == 2
    assert "expected a folder; --mirror keeps a copy" in refused.output

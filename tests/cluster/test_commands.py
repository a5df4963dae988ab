"""Every command that `cluster/` tells a user, or a machine, to run is run by bash, and read by the program it names.

bash takes the lines apart as it will for a user; the programs are stubs that write down the words they were given. The
words of `flowsearch` and `ray` are then parsed by their own command lines, and `flowsearch run` loads its space.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from flowsearch.cli import app
from flowsearch.results import mirror
from flowsearch.search.space import load

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
OWN = {"flowsearch", "ray"}


STUB = """#!/bin/sh
said="${0##*/}"
for word in "$@"; do said="$said$(printf '\\037')$word"; done
printf '%s\\036' "$said" >> "$STUB_LOG"
case "${0##*/}" in
  srun) while [ "${1#-}" != "$1" ]; do shift; done; exec "$@" ;;
  flowsearch) eval "${STUB_FLOWSEARCH:-:}" ;;
esac
"""
"""Writes its words down in one go, for it may run beside others; `srun` runs what it was given."""

STUBS = (
    "ray",
    "flowsearch",
    "optuna-dashboard",
    "pip",
    "python3.11",
    "docker",
    "kubectl",
    "ssh",
    "sbatch",
    "srun",
    "scontrol",
    "sudo",
)


class Shell:
    """Runs lines of shell in which the programs that matter are stubs.

    Args:
        folder: for the stubs, and the home of who runs them.
    """

    def __init__(self, folder: Path) -> None:
        self._log = folder / "log"
        self._home = folder / "home"
        places = [folder / "bin", self._home / "flowsearch" / ".venv" / "bin"]
        for place in places:
            place.mkdir(parents=True)
            for name in STUBS:
                (place / name).write_text(STUB)
                (place / name).chmod(0o755)
        (self._home / ".ray").mkdir()
        (self._home / ".ray" / "auth_token").write_text("x")
        self.environment = {
            "PATH": f"{places[0]}:/usr/bin:/bin",
            "HOME": str(self._home),
            "STUB_LOG": str(self._log),
            "RAY_HEAD_IP": "10.0.0.1",
        }

    def start(self, *words: str, cwd: Path = ROOT, **more: str) -> subprocess.Popen[str]:
        """A process of bash."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(["bash", *words], cwd=cwd, env=self.environment | more, **pipes)

    def run(self, text: str) -> list[list[str]]:
        """What the stubs were given when `text` is run; every line must succeed."""
        before = len(self.calls())
        process = self.start("-euc", text)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, f"{text}\n{said}"
        return self.calls()[before:]

    def calls(self) -> list[list[str]]:
        """Everything so far, a list of words per call."""
        if not self._log.exists():
            return []
        return [call.split("\x1f") for call in self._log.read_text().split("\x1e")[:-1]]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def parse(words: list[str]) -> None:
    """Have the program parse its words; nothing is invoked."""
    from ray.scripts.scripts import cli as ray_cli

    name, *rest = words
    command: Any = {"flowsearch": get_command(app), "ray": ray_cli}[name]
    path = [name]
    while hasattr(command, "resolve_command"):  # typer's groups are not click's
        context = command.make_context(path[-1], rest, resilient_parsing=False)
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        path.append(str(name))
    parsed = command.make_context(path[-1], list(rest)).params
    if path == ["flowsearch", "run"]:
        check_space(Path(parsed["file"]), parsed["overrides"] or [])
    if "entrypoint" in parsed:
        folder = Path(parsed["working_dir"])
        entry = list(parsed["entrypoint"])
        if entry[:2] == ["flowsearch", "run"]:
            entry[2] = str(folder / entry[2])
        parse(entry)


def check_space(file: Path, overrides: list[str]) -> None:
    load(ROOT / file, overrides)


def called(shell: Shell, text: str) -> list[list[str]]:
    """The `flowsearch` and `ray` commands in what bash makes of a text, those inside other commands, too."""
    calls = shell.run(text)
    found = []
    for words in calls:
        start = next((place for place, word in enumerate(words) if word in OWN), None)
        if words[0] != "kubectl" and start is not None:
            found.append(words[start:])
    return found


def texts() -> Iterator[tuple[str, str]]:
    """Pieces of shell, each with where it stands."""
    readme = (CLUSTER / "README.md").read_text()
    for number, block in enumerate(re.findall(r"```bash\n(.*?)```", readme, re.DOTALL)):
        yield f"README.md {number}", block
    for name in ("on-premises", "aws", "gcp"):
        config = yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())
        lines = ("initialization_commands", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
        yield name, "\n".join(line for key in lines for line in config.get(key, []))
    compose = yaml.safe_load((CLUSTER / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        if "command" in service:
            yield f"compose {name}", service["command"]
    yield "rayjob", next(yaml.safe_load_all((CLUSTER / "rayjob.yaml").read_text()))["spec"]["entrypoint"]
    for file in CLUSTER.iterdir():
        if file.is_file() and file.name not in ("README.md", "slurm.sbatch"):
            said = re.findall(r"^#   ((?:docker|export|ray|flowsearch) .*)$", file.read_text(), re.MULTILINE)
            if said:
                yield f"{file.name} comments", "\n".join(said)


TEXTS = dict(texts())
LEAST = {
    "README.md 0": 6,
    "README.md 1": 5,
    "README.md 2": 1,
    "README.md 3": 3,
    "README.md 4": 2,
    "README.md 7": 2,
    "on-premises": 4,
    "aws": 4,
    "gcp": 4,
    "compose head": 1,
    "compose worker": 1,
    "rayjob": 1,
    "compose.yaml comments": 1,
}
"""How many commands are there to find, so that none goes unseen."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("where", TEXTS)
def test_every_command_is_one_that_its_program_takes(shell: Shell, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("place", "fetch"):  # nobody's bucket is asked
        monkeypatch.setattr(mirror, name, lambda *_, **__: None)
    found = called(shell, TEXTS[where])
    assert len(found) >= LEAST.get(where, 0)
    for words in found:
        parse(words)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("ray start --heads", "No such option '--heads'"),
        ("flowsearch run search_spaces/full.yaml --adress auto", "No such option: --adress"),
        ("flowsearch run search_spaces/full.yaml resources.gpu=1", "resources.gpu: 1; unknown key"),
        ("ray job submit --working-dir search_spaces -- flowsearch run ful.yaml", "ful.yaml: cannot be read"),
        ("docker compose exec head flowsearch reprot", "No such command 'reprot'"),
    ],
)
def test_a_command_that_has_rotted_is_found(shell: Shell, line: str, complaint: str) -> None:
    (words,) = called(shell, line)
    with pytest.raises(Exception, match=re.escape(complaint)):
        parse(words)


def test_every_space_that_ships_is_one() -> None:
    assert set(LEAST) <= set(TEXTS)
    assert "search_spaces/full.yaml" in TEXTS["rayjob"]


@pytest.mark.parametrize("where", ["rayjob", "slurm"])
def test_a_job_that_starts_again_resumes(where: str) -> None:
    """Nothing of it is left to a shell: a submitter's, or a login node's, need not see the results."""
    text = TEXTS["rayjob"] if where == "rayjob" else (CLUSTER / "slurm.sbatch").read_text()
    assert "--resume-if-exists" in text
    assert where != "rayjob" or not set("$`\"'\\;&|<>(){}*?") & set(text)


def slurm(tmp_path: Path, nodes: int) -> dict[str, str]:
    """What Slurm tells a job's script."""
    (tmp_path / "checkout" / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    (tmp_path / "checkout" / ".venv" / "bin" / "activate").touch()
    return {
        "SLURM_JOB_ID": "42",
        "SLURM_NNODES": str(nodes),
        "SLURM_CPUS_PER_TASK": "16",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURMD_NODENAME": "n1",
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("nodes", [1, 3])
def test_the_batch_script_starts_a_ray_on_every_node_and_the_driver(shell: Shell, tmp_path: Path, nodes: int) -> None:
    words = (str(CLUSTER / "slurm.sbatch"), "search_spaces/full.yaml", str(tmp_path / "r"), "training.epochs=20")
    told = slurm(tmp_path, nodes)
    process = shell.start(*words, cwd=tmp_path / "checkout", **told)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    calls = shell.calls()
    for call in calls:
        if call[0] in OWN:
            parse(call)
    starts = [call for call in calls if call[:2] == ["ray", "start"]]
    assert len(starts) == (1 if nodes == 1 else 2)
    assert "--dashboard-host=127.0.0.1" in next(call for call in starts if "--head" in call)
    assert all("--temp-dir=/tmp/ray-42" in call for call in starts)
    (run,) = [call for call in calls if call[0] == "flowsearch"]
    assert run[2] == "search_spaces/full.yaml"
    assert run[-1] == "training.epochs=20"
    assert f"resources.concurrent={16 * nodes}" in run
    assert "--resume-if-exists" in run
    workers = [
        call for call in calls if call[0] == "srun" and f"--ntasks={nodes - 1}" in call and "--exclude=n1" in call
    ]
    assert len(workers) == (nodes > 1)
    assert not [call for call in calls if call[0] == "scontrol"]


@pytest.mark.parametrize(("code", "requeued"), [(143, True), (1, False), (0, False)])
def test_before_its_time_limit_a_job_drains_and_queues_again(
    shell: Shell, tmp_path: Path, code: int, requeued: bool
) -> None:
    """USR1 reaches the driver as SIGTERM, which it answers when its trials have reached a checkpoint."""
    told = slurm(tmp_path, 1) | {
        "STUB_FLOWSEARCH": f"trap 'sleep 0.5; exit {code}' TERM; touch ready; while :; do sleep 0.1; done"
    }
    process = shell.start(
        str(CLUSTER / "slurm.sbatch"), "search_spaces/full.yaml", str(tmp_path / "r"), cwd=tmp_path / "checkout", **told
    )
    ready = tmp_path / "checkout" / "ready"
    for _ in range(200):
        if ready.exists():
            break
        time.sleep(0.05)
    process.send_signal(10)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == code, said
    calls = shell.calls()
    assert (["scontrol", "requeue", "42"] in calls) is requeued

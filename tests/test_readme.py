"""What the README shows is what the project does."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from flowsearch.cli import app
from flowsearch.search.space import load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_space_it_shows_is_the_one_that_ships(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", README, re.S)
    (tmp_path / "iaf.yaml").write_text(shown, encoding="utf-8")
    assert load(tmp_path / "iaf.yaml") == load(ROOT / "search_spaces" / "iaf.yaml")


def test_its_commands_have_the_options_it_names() -> None:
    (block,) = re.findall(r"```\n(flowsearch run FILE.*?)```", README, re.S)
    for line in block.splitlines():
        command = line.split()[1]
        told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
        assert told.exit_code == 0
        assert [option for option in re.findall(r"--[a-z-]+", line) if option not in told.output] == []


def test_the_files_it_links_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_its_two_commands_start_from_nothing() -> None:
    for name in ("run", "tests"):
        (block,) = re.findall(rf"<!-- {name} -->\n```bash\n(.*?)```", README, re.S)
        lines = block.splitlines()
        assert lines[0] == "python3 -m venv .venv"
        assert lines[1] == ".venv/bin/pip install -q -c constraints.txt -e '.[dev]'"

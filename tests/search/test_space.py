"""What a space file may say, what becomes of it, and what every mistake is answered with."""

import json
import os
import shutil
from pathlib import Path

import optuna
import pytest

from flowsearch.errors import SpaceError
from flowsearch.search import bounded, compose
from flowsearch.search.space import SCHEMA, Space, draw, grid, load, rebuild, size
from flowsearch.training import config

STUDIES = sorted((Path(__file__).parents[2] / "results").glob("*/space.yaml"))
SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
IAF = next(path for path in SPACES if path.stem == "iaf")
HEAD = "defaults: [base, _self_]\n"
SIX = {
    "model.posterior",
    "model.posterior.k",
    "model.latent_size",
    "objective.warmup_epochs",
    "objective.beta",
    "objective.lagging_updates",
}


def space(folder: Path, text: str, *overrides: str, name: str = "given") -> Space:
    """Load a file that holds `text`."""
    file = folder / f"{name}.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file, overrides)


def values(loaded: Space) -> dict[str, object]:
    """The only configuration of a space without ranges."""
    assert size(loaded) == 1
    return rebuild(loaded, {})


# ---------------------------------------------------------------------------------------------------- what ships


@pytest.mark.parametrize("file", SPACES, ids=lambda path: path.stem)
def test_every_space_that_ships_loads_from_any_folder(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = load(file)
    assert loaded.study == file.stem
    assert file.read_text().startswith("# ")
    assert load(Path(os.path.relpath(file))) == loaded


def test_the_spaces_cover_the_thesis():
    assert {"quickstart", "gaussian", "planar", "iaf", "lagging", "beta", "full"} <= {path.stem for path in SPACES}
    for name in ("quickstart", "iaf", "full"):
        assert set(load(next(path for path in SPACES if path.stem == name)).names) == SIX


def test_base_is_complete():
    loaded = load(compose.BASE)
    assert loaded.study == "base"
    assert list(bounded.read(compose.BASE)) == list(SCHEMA)


# ---------------------------------------------------------------------------------------------------- drawing


def test_parameters_are_legible_and_conditional():
    loaded = load(IAF)
    params = {
        "model.latent_size": 64,
        "model.posterior": "IAF",
        "model.posterior.k": 3,
        "objective.beta": 0.5,
        "objective.warmup_epochs": 2,
        "objective.lagging_updates": 30,
    }
    tree = rebuild(loaded, params)
    assert tree["model"]["posterior"] == {"IAF": {"k": 3, "hidden": 320}}
    assert config.parse(tree).objective.beta == 0.5
    trial = optuna.trial.FixedTrial(params | {"model.posterior": "Gaussian"})
    assert draw(loaded, trial)["model"]["posterior"] == "Gaussian"
    assert "model.posterior.k" not in trial.params


def test_null_is_a_candidate_called_none(tmp_path):
    loaded = space(tmp_path, HEAD + "objective: {free_bits: {choice: [null, {PerDocument: {nats: {choice: [2, 5]}}}]}}")
    assert grid(loaded) == [
        {"objective.free_bits": "none"},
        {"objective.free_bits": "PerDocument", "objective.free_bits.nats": 2},
        {"objective.free_bits": "PerDocument", "objective.free_bits.nats": 5},
    ]
    assert rebuild(loaded, {"objective.free_bits": "none"})["objective"]["free_bits"] is None
    assert json.loads(json.dumps(grid(loaded))) == grid(loaded)


def test_null_may_be_tried_first(tmp_path):
    first = "search: {first: [{objective.free_bits: null}, {objective.free_bits: none}]}\n"
    loaded = space(tmp_path, HEAD + first + "objective: {free_bits: {choice: [{PerDocument: {nats: 5}}, null]}}")
    assert loaded.search.first == [{"objective.free_bits": "none"}] * 2


def test_a_range_inside_a_component_that_does_not_vary(tmp_path):
    loaded = space(
        tmp_path, HEAD + "model: {encoder: {LSTMEncoder: {embedding_size: 8, hidden_size: {choice: [16, 32]}}}}"
    )
    assert grid(loaded) == [{"model.encoder.hidden_size": 16}, {"model.encoder.hidden_size": 32}]


def test_what_is_drawn_is_nobody_elses(tmp_path):
    loaded = space(tmp_path, HEAD)
    rebuild(loaded, {})["model"]["encoder"]["LSTMEncoder"]["hidden_size"] = 1
    assert rebuild(loaded, {})["model"]["encoder"]["LSTMEncoder"]["hidden_size"] == 1024


@pytest.mark.parametrize(
    ("params", "fragment"),
    [
        ({}, "objective.beta: missing; expected a number from 0.2 to 1"),
        ({"objective.beta": 2}, "objective.beta: 2; expected a number from 0.2 to 1"),
        ({"objective.beta": True}, "objective.beta: True; expected a number"),
        (
            {"objective.beta": 0.5, "objective.bta": 1},
            "objective.bta: 1; no such parameter; did you mean 'objective.beta'?",
        ),
    ],
)
def test_rebuild_is_strict(tmp_path, params, fragment):
    loaded = space(tmp_path, HEAD + "objective: {beta: {uniform: [0.2, 1]}}")
    with pytest.raises(SpaceError) as caught:
        rebuild(loaded, params)
    assert fragment in str(caught.value)


def test_a_parameter_of_a_branch_not_taken_is_refused(tmp_path):
    loaded = space(tmp_path, HEAD + "model: {posterior: {choice: [Gaussian, {IAF: {k: {int: [1, 2]}}}]}}")
    with pytest.raises(SpaceError, match=r"model\.posterior\.k: 1; its branch is not taken"):
        rebuild(loaded, {"model.posterior": "Gaussian", "model.posterior.k": 1})


# ---------------------------------------------------------------------------------------------------- composing


def test_a_component_or_a_range_replaces_the_base_whole(tmp_path):
    tree = values(space(tmp_path, HEAD + "model: {encoder: {LSTMEncoder: {embedding_size: 8, hidden_size: 8}}}"))
    assert tree["model"]["encoder"] == {"LSTMEncoder": {"embedding_size": 8, "hidden_size": 8}}
    assert tree["model"]["latent_size"] == 32
    with pytest.raises(SpaceError, match=r"model\.encoder\.embedding_size: .*missing; it has no default"):
        space(tmp_path, HEAD + "model: {encoder: {LSTMEncoder: {hidden_size: 8}}}")
    tree = space(tmp_path, HEAD + "training: {optimizer: {choice: [SGD, {Adam: {lr: 0.01}}]}}").tree
    assert tree["training"]["optimizer"] == {"choice": ["SGD", {"Adam": {"lr": 0.01}}]}


def test_files_start_from_files_beside_them(tmp_path):
    space(tmp_path, HEAD + "model: {latent_size: 64, posterior: {IAF: {k: 2}}}", name="parent")
    child = space(tmp_path, "defaults: [parent, _self_]\nmodel: {posterior: {Planar: {k: 3}}}", name="child")
    assert child.study == "child"
    model = values(child)["model"]
    assert (model["latent_size"], model["posterior"]) == (64, {"Planar": {"k": 3}})


def test_the_order_of_defaults_counts(tmp_path):
    assert values(space(tmp_path, "defaults: [_self_, base]\nseed: 5"))["seed"] == 0
    assert values(space(tmp_path, "defaults: [base]\nseed: 5"))["seed"] == 5


def test_base_is_never_a_file_of_the_users(tmp_path):
    (tmp_path / "base.yaml").write_text("seed: 5")
    with pytest.raises(SpaceError, match="base is the file that ships with flowsearch"):
        space(tmp_path, HEAD)


def test_a_study_is_called_as_its_file_unless_it_says_otherwise(tmp_path):
    assert space(tmp_path, HEAD, name="a.b-c").study == "a.b-c"
    assert space(tmp_path, HEAD + "study: other").study == "other"
    assert space(tmp_path, HEAD, "study=third").study == "third"


def test_numbers_are_those_of_yaml_1_2(tmp_path):
    tree = values(space(tmp_path, HEAD + "training: {optimizer: {Adam: {lr: 1e-3}}}\ndata: {corpus: no}"))
    assert tree["training"]["optimizer"] == {"Adam": {"lr": 0.001}}
    assert tree["data"]["corpus"] == "no"


def test_a_relative_root_stays_as_given(tmp_path):
    assert values(space(tmp_path, HEAD + "data: {root: corpora, corpus: yahoo}"))["data"]["root"] == "corpora"


# ---------------------------------------------------------------------------------------------------- identity


@pytest.mark.parametrize("file", SPACES, ids=lambda path: path.stem)
def test_text_is_read_back_to_an_equal_space(file, tmp_path):
    loaded = load(file)
    again = space(tmp_path, loaded.text(), name="space")
    assert again == loaded
    assert (again.text(), again.hash) == (loaded.text(), loaded.hash)


def test_the_hash_is_of_the_content(tmp_path):
    loaded = load(IAF)
    shutil.copy(IAF, tmp_path / "copy.yaml")
    assert load(tmp_path / "copy.yaml", ["study=other"]).hash == loaded.hash
    assert load(IAF, ["model.posterior.k={int: [1, 3]}"]).hash != loaded.hash
    assert load(IAF, ["search.trials=65"]).hash != loaded.hash


# ---------------------------------------------------------------------------------------------------- overrides

K = {"int": [1, 4]}


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("training.epochs=20", "training.epochs", 20),
        ("seed=7", "seed", 7),
        ("training.clip_norm=1e-3", "training.clip_norm", 0.001),
        ("data.root='a b'", "data.root", "a b"),
        ("model.latent_size={choice: [8, 16]}", "model.latent_size", {"choice": [8, 16]}),
        ("model.latent_size=[8,16]", "model.latent_size", {"choice": [8, 16]}),
        ("model.latent_size.choice=[8]", "model.latent_size", {"choice": [8]}),
        ("model.latent_size=16", "model.latent_size", 16),
        ("objective.warmup_epochs.int=[0,3]", "objective.warmup_epochs", {"int": [0, 3]}),
        (
            "model.encoder.LSTMEncoder.hidden_size=256",
            "model.encoder",
            {"LSTMEncoder": {"embedding_size": 512, "hidden_size": 256}},
        ),
        (
            "model.encoder.hidden_size={choice: [1, 2]}",
            "model.encoder",
            {"LSTMEncoder": {"embedding_size": 512, "hidden_size": {"choice": [1, 2]}}},
        ),
        (
            "model.encoder={LSTMEncoder: {embedding_size: 128, hidden_size: 256}}",
            "model.encoder",
            {"LSTMEncoder": {"embedding_size": 128, "hidden_size": 256}},
        ),
        (
            "model.decoder.LSTMDecoder={embedding_size: 1, hidden_size: 2}",
            "model.decoder",
            {"LSTMDecoder": {"embedding_size": 1, "hidden_size": 2}},
        ),
        ("model.posterior=IAF", "model.posterior", "IAF"),
        ("model.posterior={IAF: {k: 2}}", "model.posterior", {"IAF": {"k": 2}}),
        (
            "model.posterior.k=[1,2]",
            "model.posterior",
            {
                "choice": [
                    "Gaussian",
                    {"Planar": {"k": {"choice": [1, 2]}}},
                    {"IAF": {"k": {"choice": [1, 2]}, "hidden": 320}},
                ]
            },
        ),
        (
            "model.posterior.IAF.hidden=64",
            "model.posterior",
            {"choice": ["Gaussian", {"Planar": {"k": K}}, {"IAF": {"k": K, "hidden": 64}}]},
        ),
        ("data.corpus.kind=gauss", "data.corpus", {"synthetic": {"kind": "gauss"}}),
    ],
)
def test_an_override_replaces_what_it_names(text, path, expected):
    tree = load(IAF, [text]).tree
    for key in path.split("."):
        tree = tree[key]
    assert tree == expected


def test_overrides_apply_in_order():
    loaded = load(
        IAF, ["model.posterior=IAF", "model.posterior.k=2", "search.trials=3", "search.pruner.reduction_factor=4"]
    )
    assert loaded.tree["model"]["posterior"] == {"IAF": {"k": 2}}
    assert loaded.search.trials == 3
    assert loaded.search.pruner.knobs["reduction_factor"] == 4


@pytest.mark.parametrize(
    ("texts", "key", "expected"),
    [
        (["search.budget.hours=40"], "budget", {"hours": 40, "trial_hours": None}),
        (["search.budget={hours: 3}", "search.budget.trial_hours=9"], "budget", {"hours": 3, "trial_hours": 9}),
        (["search.confirm.best=2", "search.confirm.seeds=3"], "confirm", {"best": 2, "seeds": 3}),
        (["search.require.kl.min=1"], "require", {"kl": {"min": 1, "max": None, "after": 0}}),
        (
            ["search.require.kl={min: 1}", "search.require.kl.max=9"],
            "require",
            {"kl": {"min": 1, "max": 9, "after": 0}},
        ),
        (["search.pruner=null", "search.objectives.kl=minimize"], "objectives", {"elbo": "maximize", "kl": "minimize"}),
    ],
)
def test_an_override_leads_into_what_was_null_or_empty(texts, key, expected):
    assert load(IAF, texts).resolved["search"][key] == expected


def test_an_override_names_a_component_where_there_was_none():
    pruner = load(IAF, ["search.pruner=null", "search.pruner.ASHA.resource=seconds"]).search.pruner
    assert (pruner.name, pruner.knobs["resource"]) == ("ASHA", "seconds")


def test_what_is_tried_first_can_be_overridden():
    text = "search.first=[{objective.beta: 0.3}, {objective.beta: 1}]"
    loaded = load(next(path for path in SPACES if path.stem == "beta"), [text])
    assert loaded.search.first == [{"objective.beta": 0.3}, {"objective.beta": 1}]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("model.latent_sizes=3", "model.latent_sizes: 3; unknown key; did you mean 'latent_size'?"),
        ("modle.latent_size=3", "modle.latent_size: 3; unknown key; did you mean 'model'?"),
        ("training.epoch.x=3", "training.epoch.x: 3; unknown key; did you mean 'epochs'?"),
        ("model.encoder.hiden_size=3", "model.encoder.hiden_size: 3; unknown key; did you mean 'hidden_size'?"),
        ("model.posterior.kk=3", "model.posterior.kk: 3; unknown key; did you mean 'k'?"),
        ("objective.annealing.He2019.start=0.2", "objective.annealing.He2019.start: 0.2; unknown key"),
        ("training.epochs.x=3", "training.epochs.x: 3; 'x' is below a value"),
        ("search.budget.hour=3", "search.budget.hour: 3; unknown key; did you mean 'hours'?"),
        ("search.budget.hours.x=3", "search.budget.hours.x: 3; 'x' is below a value"),
        ("search.confirm.best=2", "search.confirm.seeds: missing"),
        ("search.require.active_unit.min=1", "search.require.active_unit: 'active_unit'; unknown metric; did you mean"),
        ("search.require.kl.mn=1", "search.require.kl.mn: 1; unknown key; did you mean 'min'?"),
        ("search.objectives.kl.x=1", "search.objectives.kl.x: 1; 'x' is below a value"),
        ("search.rows.a.b=1", "search.rows.a.b: 1; 'b' is below a value"),
        ("search.first.a=1", "search.first.a: 1; 'a' is below a value"),
        ("training.epochs=three", "training.epochs: 'three'; input should be a valid integer"),
        ("training.epochs=5", "objective.warmup_epochs: 10; expected fewer than training.epochs, 5"),
        ("training.epochs={choice: [40, 5]}", "objective.warmup_epochs: 10; expected fewer than training.epochs, 5"),
        ("model.latent_size=8,16", "expected one value; a range is {choice: [...]}"),
        ("model.latent_size=interval(1,2)", "expected one value"),
        ("data.corpus=glob(*)", "expected one value"),
        ("+model.x=3", "expected key=value"),
        ("~model.latent_size", "expected key=value"),
        ("model/encoder=LSTMEncoder", "expected key=value, the key a dotted path"),
        ("model@x=3", "expected key=value"),
        ("=3", "expected key=value"),
        ("model", "expected key=value"),
        ("model.posterior={IAF: {k: 3}", "no viable alternative at input '{IAF: {k: 3}'; expected key=value"),
        ("model=3", "model: 3; expected model.KEY=value"),
        ("hydra.run.dir=x", "hydra.run.dir: 'x'; unknown key"),
        ("defaults=[]", "defaults: []; unknown key"),
        ("objective.beta=nan", "objective.beta: nan; expected a finite number"),
        ("seed=1" + "0" * 30, "0; expected an integer of at most 9007199254740992"),
        ("seed=" + "9" * 3990, "9; expected an integer of at most 9007199254740992"),
        ("seed=" + "9" * 5000, "expected key=value, short and shallow"),
        ("data.root=${oc.env:HOME}", "interpolation is not allowed"),
        ("model.posterior={_target_: os.system}", "'_target_' is not allowed"),
        ("model.posterior={1: 2}", "1 is not a text"),
        ("data.root=" + "[" * 30, "expected key=value, short and shallow"),
        ("data.root=" + "x" * 20_000, "expected key=value, short and shallow"),
        ("data.root=\udcff", "expected key=value, short and shallow"),
        ("data.root=a\nb", "expected key=value, short and shallow"),
        ("study=../up", "study: '../up'; expected up to 64 letters"),
    ],
)
def test_a_bad_override_is_answered_in_one_line(text, fragment):
    with pytest.raises(SpaceError) as caught:
        load(IAF, [text])
    assert fragment in str(caught.value)
    assert str(caught.value).startswith(f"{IAF}: ")
    assert str(caught.value).isprintable()
    assert "multirun" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------- mistakes

BOMB = "a0: &a0 [x, x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
RANGE = "model: {latent_size: %s}"


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", ": empty; expected a mapping"),
        ("- a", ": ['a']; expected a mapping"),
        ("a: b: c", ":1:5: mapping values are not allowed"),
        ("seed: 1\nseed: 2", ":2:1: 'seed' is given twice"),
        ("seed: 'x", ":1:9: while scanning a quoted scalar"),
        ("seed: \x07", ":1:7: control characters are not allowed"),
        ("seed: !!python/object/apply:os.system [ls]", ":1:7: tag tag:yaml.org,2002:python/object/apply:os.system"),
        ("seed: !thing 3", ":1:7: tag !thing; expected plain data"),
        ("seed: ${oc.env:HOME}", ":1:7: ${oc.env:HOME}; interpolation is not allowed"),
        ("seed: .nan", ":1:7: .nan; expected a finite number"),
        ("seed: 1" + "0" * 5000, "expected an integer of at most 9007199254740992"),
        ("data: {root: " + "x" * 2000 + "}", "expected at most 1000 characters"),
        ("1: 2", ":1:1: 1 is not a text; expected a key"),
        ("_target_: os.system", ":1:1: '_target_' is not allowed"),
        ("model: {posterior: {IAF: {_partial_: true}}}", ":1:27: '_partial_' is not allowed"),
        ("a: " + "[" * 30, ":1:23: expected at most 20 levels"),
        ("a: [" + "1, " * 30_000 + "1]", "expected at most 20000 values"),
        ("a: &a x\nb: [" + "*a, " * 101 + "1]", "expected at most 100 aliases"),
        ("a: &a [*a]", ":1:4: too many values once its aliases are followed"),
        (BOMB, "too many values once its aliases are followed"),
        ("#" * 1_000_001, ": 1000001 bytes; expected at most 1000000"),
        ("hydra: {run: {dir: x}}", "hydra: {'run': {'dir': 'x'}}; unknown key"),
        ("modle: {}", "modle: {}; unknown key; did you mean 'model'?"),
        ("model: 3", "model: 3; expected a mapping of keys"),
        ("defaults: base", "defaults: 'base'; expected a list of names"),
        ("defaults: [../up]", "defaults: '../up'; expected the name of a file beside this one, or base"),
        ("defaults: [/etc/passwd]", "expected the name of a file beside this one"),
        ("defaults: [{override hydra/launcher: x}]", "expected the name of a file beside this one"),
        ("defaults: [bsae]", "defaults: bsae; no such file; did you mean 'base'?"),
        ("defaults: [base, base]", "expected each name once"),
        ("defaults: [given]", "defaults: given; reached twice"),
        ("model: {}", "seed: missing; expected it, or `defaults: [base, _self_]` at the top of the file"),
        (HEAD + "study: a/b", "study: 'a/b'; expected up to 64 letters"),
        (HEAD + "model: {latent_sizes: 3}", "model.latent_sizes: 3; unknown key; did you mean 'latent_size'?"),
        (HEAD + "model: {latent_size: -1}", "model.latent_size: -1; input should be greater than or equal to 0"),
        (HEAD + "model: {latent_size: true}", "model.latent_size: True; input should be a valid integer"),
        (HEAD + "model: {posterior: Planer}", "model.posterior: 'Planer'; unknown name; did you mean 'Planar'?"),
        (HEAD + "model: {posterior: {choice: [Gaussian, {IAF: {kk: 1}}]}}", "model.posterior.kk: 1; unknown key"),
        (
            HEAD + "model: {posterior: {choice: [Gaussian, {IAF: {k: {int: [0, 2]}}}]}}",
            "model.posterior.k: 0; input should",
        ),
        (HEAD + "model: {choice: [1]}", "a range stands in place of a value, not of a section"),
        (HEAD + RANGE % "{choice: []}", "model.latent_size: {choice: []}; expected a list of at least one candidate"),
        (HEAD + RANGE % "{choice: 3}", "expected a list of at least one candidate"),
        (HEAD + RANGE % f"{{choice: {list(range(1, 1002))}}}", "a choice of 1001 candidates; expected at most 1000"),
        (HEAD + RANGE % "{choice: [8, 8]}", "model.latent_size: 8 is a candidate twice"),
        (HEAD + RANGE % "{choice: [[8]]}", "model.latent_size: [8]; expected scalars, null, names or"),
        (HEAD + RANGE % "{choice: [{int: [1, 2]}]}", "{'int': [1, 2]}; expected scalars, null, names or"),
        (HEAD + RANGE % "{choice: [8, big]}", "model.latent_size: 'big'; input should be a valid integer"),
        (HEAD + RANGE % "{choose: [8]}", "expected a range or {Name: {knob: value}}; did you mean 'choice'?"),
        (HEAD + RANGE % "{int: [1, 2], choice: [1]}", "expected exactly one of choice, int, uniform, log"),
        (HEAD + RANGE % "{int: [4, 1]}", "{int: [4, 1]}; expected [low, high], two integers with low <= high"),
        (HEAD + RANGE % "{int: [1, 4.0]}", "{int: [1, 4.0]}; expected [low, high], two integers"),
        (HEAD + RANGE % "{int: [1]}", "{int: [1]}; expected [low, high], two integers"),
        (HEAD + RANGE % "{uniform: [1, 4]}", "model.latent_size: 1.0; input should be a valid integer"),
        (
            HEAD + "objective: {beta: {log: [0, 1]}}",
            "{log: [0, 1]}; expected [low, high], two numbers with 0 < low <= high",
        ),
        (HEAD + "objective: {beta: {uniform: [a, b]}}", "{uniform: ['a', 'b']}; expected [low, high], two numbers"),
        (HEAD + "objective: {beta: {uniform: [true, 2]}}", "{uniform: [True, 2]}; expected [low, high], two numbers"),
        (HEAD + "objective: {beta: {uniform: [0, -1]}}", "two numbers with low <= high"),
        (HEAD + "objective: {free_bits: {choice: [null, none]}}", "objective.free_bits: 'none' is a candidate twice"),
        (HEAD + "seed: {choice: [1, 2]}", "seed: {'choice': [1, 2]}; input should be a valid integer"),
        (
            HEAD + "model: {posterior: {choice: [{IAF: {k: 1}}, {IAF: {k: 2}}]}}",
            "model.posterior: 'IAF' is a candidate twice; expected different candidates; put a range inside one IAF",
        ),
        (
            HEAD + "model: {posterior: {choice: [{Planar: {k: {choice: [1]}}}, {IAF: {k: {int: [1, 2]}}}]}}",
            "model.posterior.k: choice and int in two branches; expected ranges of one kind under one name",
        ),
        (
            HEAD + "model: {posterior: {choice: [{Planar: {k: {choice: [1]}}}, {IAF: {k: {choice: [2]}}}]}}",
            "model.posterior.k: choices of different candidates in two branches",
        ),
        (
            HEAD + "objective: {warmup_epochs: {int: [0, 9]}}\ntraining: {epochs: {choice: [40, 9]}}",
            "objective.warmup_epochs: 9; expected fewer than training.epochs, 9",
        ),
        (
            HEAD + "training: {epochs: {int: [9, 40]}}\nobjective: {warmup_epochs: {choice: [9, 0]}}",
            "objective.warmup_epochs: 9; expected fewer than training.epochs, 9",
        ),
        (HEAD + "search: {trials: 0}", "search.trials: 0; input should be greater than 0"),
        (HEAD + "search: {trails: 3}", "search.trails: 3; unknown key; did you mean 'trials'?"),
        (HEAD + "search: {sampler: TEP}", "search.sampler: 'TEP'; unknown name; did you mean 'TPE'?"),
        (HEAD + "search: {pruner: {ASHA: {reduction: 3}}}", "search.pruner.reduction: 3; unknown key"),
        (HEAD + "search: {pruner: {ASHA: {reduction_factor: x}}}", "search.pruner.reduction_factor: 'x'; input should"),
        (HEAD + "search: {first: [{objective.beta: 1}]}", "search.first.0.objective.beta: 1; no such parameter"),
        (HEAD + "search: {first: [{}]}\n" + RANGE % "{choice: [1]}", "search.first.0.model.latent_size: missing"),
        (
            HEAD + "search: {first: [{model.posterior: Planer}]}\nmodel: {posterior: {choice: [Gaussian, Planar]}}",
            "search.first.0.model.posterior: 'Planer'; did you mean 'Planar'?",
        ),
        (HEAD + "resources: {cpus_per_trial: 0}", "resources.cpus_per_trial: 0; input should be greater than 0"),
        (HEAD + 'model: {"\\e[31m\\n": 1}', r"model.\x1b[31m\n: 1; unknown key"),
    ],
)
def test_a_bad_file_is_answered_in_one_line(tmp_path, text, fragment):
    with pytest.raises(SpaceError) as caught:
        space(tmp_path, text)
    assert fragment in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'given.yaml'}:")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("raw", "fragment"),
    [(b"seed: 1\nstudy: \xff\xfe", ":2:8: expected UTF-8"), ("seed: 1".encode("utf-16"), ":1:1: expected UTF-8")],
)
def test_other_encodings_are_refused_with_their_place(tmp_path, raw, fragment):
    (tmp_path / "given.yaml").write_bytes(raw)
    with pytest.raises(SpaceError) as caught:
        load(tmp_path / "given.yaml")
    assert fragment in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(SpaceError, match="not a file"):
        load(tmp_path)
    with pytest.raises(SpaceError, match="cannot be read: No such file"):
        load(tmp_path / "absent.yaml")
    with pytest.raises(SpaceError, match="cannot be read"):
        load(Path("a\0b"))


def test_files_that_start_from_each_other_are_refused(tmp_path):
    (tmp_path / "other.yaml").write_text("defaults: [given]")
    with pytest.raises(SpaceError, match="given; reached twice"):
        space(tmp_path, "defaults: [other]")


def test_a_mistake_in_a_file_beside_is_said_to_be_there(tmp_path):
    (tmp_path / "other.yaml").write_text("seed: 1\nseed: 2")
    with pytest.raises(SpaceError) as caught:
        space(tmp_path, "defaults: [other]")
    assert str(caught.value) == f"{tmp_path / 'other.yaml'}:2:1: 'seed' is given twice"


def test_a_continuous_range_has_no_grid(tmp_path):
    loaded = space(tmp_path, HEAD + "objective: {beta: {uniform: [0.2, 1]}}\n" + RANGE % "{choice: [1, 2]}")
    assert size(loaded) is None
    with pytest.raises(SpaceError, match=r"objective\.beta: \{uniform: \[0.2, 1\]\}; a continuous range has no grid"):
        grid(loaded)


def test_a_grid_too_large_to_list_is_refused(tmp_path):
    loaded = space(tmp_path, HEAD + RANGE % "{int: [1, 1000000]}")
    assert size(loaded) == 1_000_000
    with pytest.raises(SpaceError, match="a grid of 1000000 points"):
        grid(loaded)


@pytest.mark.parametrize("file", STUDIES, ids=[file.parent.name for file in STUDIES])
def test_the_space_of_an_older_study_can_be_read(file):
    assert load(file).study == file.parent.name

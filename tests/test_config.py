"""Recipes: every mistake at once, overrides, and every shipped configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from compressor.config import Recipe, dump_recipe, load_recipe, parse_recipe, references_only
from compressor.errors import ConfigError
from tests.recipes import RECIPES, name_of

MINIMAL = {
    "source_language": "de",
    "target_language": "en",
    "data": {"train": [{"source": "a", "target": "b"}], "dev": [{"source": "c", "target": "d"}]},
    "teacher": {"path": "teacher"},
    "training": {"updates": 5},
}


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_shipped_configurations_are_valid_and_survive_a_round_trip(path: Path) -> None:
    recipe = load_recipe(path)
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe


def test_every_mistake_is_listed_with_its_path() -> None:
    values = MINIMAL | {
        "student": {"d_model": 10, "num_heads": 4, "colour": "red"},
        "training": {"updates": 5, "epochs": 2, "learning_rate": "fast"},
        "method": {"name": "magic"},
    }
    with pytest.raises(ConfigError) as caught:
        parse_recipe(values, "recipe.yaml")
    assert str(caught.value).startswith("recipe.yaml: 5 mistakes")
    conflicts = ("student: d_model 10 must be even and divisible", "training: give exactly one of updates, epochs")
    for part in ("student.colour", "training.learning_rate", "method.name", *conflicts):
        assert any(problem.startswith(part) for problem in caught.value.problems), part


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": None}, "needs a teacher"),
        ({"source_language": None}, "source_language and target_language"),
        ({"student": {"d_model": 10, "num_heads": 4}}, "divisible by num_heads"),
        ({"student": {"max_length": 64}}, "less than the data's 128 tokens"),
        ({"student": {"architecture": "sru", "hidden_size": 33}}, "hidden_size 33 must be even"),
        ({"student": {"architecture": "sru", "num_heads": 4}}, "student.num_heads"),
        (
            {"student": {"architecture": "sru"}, "training": {"updates": 5, "initialization": "teacher_layers"}},
            "teacher_layers is for students with a Transformer encoder, not for sru",
        ),
        ({"method": {"name": "seqkd", "rollout": {"background": True}}}, "background: true is for imitkd, imitkd.full"),
        ({"method": {"rollout": {"background": True, "replay": 0.5}}}, r"background: not with rollout.replay 0.5"),
        (
            {"method": {"rollout": {"background": True, "strategy": "speculative"}}},
            r"background: not with rollout.strategy speculative",
        ),
        ({"training": {}}, "exactly one of updates, epochs"),
        ({"data": MINIMAL["data"] | {"train": [{"source": "a", "hub": "b"}]}}, "exactly one of source, path, hub"),
        ({"data": MINIMAL["data"] | {"train": [{"source": "a"}]}}, r"data.train.0: has no target"),
        (
            {"data": MINIMAL["data"] | {"dev": [{"path": "a.jsonl", "target_column": None}]}},
            r"data.dev.0: has no target",
        ),
        ({"data": MINIMAL["data"] | {"mono": [{"source": "a"}]}, "method": {"name": "seqkd"}}, "without a reference"),
        (
            {"method": {"name": "seqkd", "contexts": "teacher"}},
            "method: contexts: teacher is for imitkd, .* not for seqkd",
        ),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_does_not_fit_together_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_recipe(MINIMAL | change)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "a mapping"), ("a: [", "not valid YAML"), ("- 1", "a mapping")],
)
def test_files_that_are_no_recipes(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_recipe(path)
    with pytest.raises(ConfigError, match="no such recipe"):
        load_recipe(tmp_path / "absent.yaml")


def test_overrides_are_yaml_at_a_dotted_path(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    recipe = load_recipe(path, ["training.learning_rate=5e-4", "data.mono=[{source: m}]", "student.norm=pre"])
    assert recipe.training.learning_rate == 5e-4
    assert recipe.data.mono[0].source == "m"
    assert recipe.student.norm == "pre"
    for wrong in ("training", "=1", "training.updates.more=1"):
        with pytest.raises(ConfigError, match="overrides"):
            load_recipe(path, [wrong])


def test_references_alone_need_no_teacher() -> None:
    recipe = parse_recipe(MINIMAL | {"training": {"updates": 5, "initialization": "teacher_embeddings"}})
    plain = references_only(recipe)
    assert plain.teacher is None
    assert plain.method.name == "vanilla"
    assert plain.training.initialization == "random"


WRONG: dict[str, tuple[dict, list[str]]] = {
    "conflicts beside wrong fields": (
        {"student": {"d_model": 10, "max_length": 64}, "training": {"seed": "x"}, "data": {"train": [{"source": "a"}]}},
        ["training.seed: ", "data.dev: ", "data.train.0: has no target", "student.max_length: 64 is less",
         "student: d_model 10", "training: give exactly one"],
    ),
    "a wrong field is in no conflict": ({"training": {"updates": "x"}, "method": {"name": "magic"}, "teacher": None},
                                        ["training.updates: ", "method.name: Input should be"]),
    "a misspelt field is not missing as well": ({"training": {"update": 5}},
                                                ["training.update: unknown field; did you mean training.updates?"]),
    "a misspelt section": ({"studnet": {}}, ["studnet: unknown field; did you mean student?"]),
    "a field of another section": ({"learning_rate": 1},
                                   ["learning_rate: unknown field; did you mean training.learning_rate?"]),
    "a misspelt field in a list": (
        {"data": MINIMAL["data"] | {"dev": [{"sorce": "c", "target": "d"}, {"source": "e"}, 3]}},
        ["data.dev.0.sorce: unknown field; did you mean data.dev.0.source?", "data.dev.2: ", "data.dev.1: has no"],
    ),
    "sections that are none": ({"data": 1, "training": [], "student": "big"}, ["data: ", "training: ", "student: "]),
    "lists of numbers": ({"training": {"updates": 1, "adam_betas": ["x", 1]}}, ["training.adam_betas.0: "]),
    "an unknown start": ({"training": {"updates": 1, "initialization": "teacher_layer"}},
                         ["training.initialization: give random, teacher_embeddings, teacher_layers, or the folder"]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_fields_unknown_ones_and_conflicts_are_listed_together(name: str) -> None:
    changes, expected = WRONG[name]
    with pytest.raises(ConfigError) as caught:
        parse_recipe(MINIMAL | changes)
    problems = caught.value.problems
    assert len(problems) == len(expected), problems
    assert all(any(line.startswith(start) for line in problems) for start in expected), problems


def test_a_recipe_without_a_teacher_is_read_for_training_alone(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in MINIMAL.items() if name != "teacher"}))
    with pytest.raises(ConfigError, match=r"method.name: imitkd.full needs a teacher"):
        load_recipe(path)
    recipe = load_recipe(path, ["training.initialization=teacher_layers"], without_teacher=True)
    assert (recipe.teacher, recipe.method.name, recipe.training.initialization) == (None, "vanilla", "random")
    with pytest.raises(ConfigError, match=r"did you mean method.label_smoothing"):
        load_recipe(path, ["method.label_smothing=0.1"], without_teacher=True)


def test_every_field_is_documented() -> None:
    sections = Recipe.model_json_schema()["$defs"]
    fields = [
        (title, name, field) for title, section in sections.items() for name, field in section["properties"].items()
    ]
    assert [f"{title}.{name}" for title, name, field in fields if "description" not in field] == []


def test_every_override_that_is_wrong_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    with pytest.raises(ConfigError) as error:
        load_recipe(path, ["training", "=3", "training.seed=[", "training.seed=4"])
    assert len(error.value.problems) == 3


def test_a_recipe_takes_over_the_fields_of_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(MINIMAL))
    (tmp_path / "student").mkdir()
    files = {
        "base.yaml": {"base": "../base.yaml", "student": {"d_model": 64}, "training": {"learning_rate": 0.5}},
        "seqkd.yaml": {"base": "base.yaml", "method": {"name": "seqkd"}, "training": {"seed": 3}},
    }
    for name, values in files.items():
        (tmp_path / "student" / name).write_text(yaml.safe_dump(values))
    recipe = load_recipe(tmp_path / "student" / "seqkd.yaml", ["training.seed=4"])
    expected = MINIMAL | {
        "student": {"d_model": 64},
        "method": {"name": "seqkd"},
        "training": {"updates": 5, "learning_rate": 0.5, "seed": 4},
    }
    assert recipe == parse_recipe(expected)


def test_a_list_replaces_the_list_of_the_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(MINIMAL))
    values = {"base": "base.yaml", "data": {"train": [{"path": "pairs.jsonl"}]}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    data = load_recipe(tmp_path / "recipe.yaml").data
    assert [source.path for source in data.train] == ["pairs.jsonl"] and data.dev[0].source == "c"


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("recipe.yaml", "recipe.yaml is based on this recipe itself"),
        ("other.yaml", "recipe.yaml is based on this recipe itself"),
        ("absent.yaml", "absent.yaml: no such recipe"),
        (["one.yaml", "two.yaml"], "give the path of one recipe"),
    ],
)
def test_a_wrong_base_is_refused(tmp_path: Path, base: object, message: str) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(MINIMAL | {"base": base}))
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({"base": "recipe.yaml"}))
    with pytest.raises(ConfigError, match=message):
        load_recipe(tmp_path / "recipe.yaml")

"""The label store: what is in it, training from it with no teacher, and every way in which it can be wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compressor.config import Recipe, parse_recipe
from compressor.decoding.search import beam_search, pad_sources
from compressor.distillation import label_run, labels, setup
from compressor.distillation.label_run import label_corpus
from compressor.distillation.label_shards import TopK
from compressor.distillation.label_store import LabelStore
from compressor.distillation.run import distill
from compressor.distillation.trainer import Trainer
from compressor.errors import ConfigError, DataError, ModelError, OutputExistsError, StorageError
from compressor.exporters.shortlist import teacher_pairs
from compressor.models.weights import Run, load_run, save_run
from tests.distillation.killed_runs import losses

SOURCES, SHARD = 30, 8
Make = Callable[..., Recipe]


def recipe_of(make_recipe: Make, method: str = "seqkd", size: int = SOURCES, **teacher: Any) -> Recipe:
    """The tiny recipe on 30 sources; ``teacher``: fields that replace the tiny run's."""
    section = {"teacher_top_k": 4} if method in ("seqkd+full", "vanilla+full") else {}
    values = make_recipe(method, updates=3, method_section=section).model_dump()
    values["data"]["train"][0]["size"] = size
    values["teacher"] |= teacher
    return parse_recipe(values)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "SHARD_SOURCES", SHARD)


@pytest.fixture(scope="module")
def written(make_recipe: Make, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("labels") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "SHARD_SOURCES", SHARD)
        label_corpus(recipe_of(make_recipe), out, num_hypotheses=3, top_k=4, progress=False)
    yield out


@pytest.fixture(scope="module")
def on_references(make_recipe: Make, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("references") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "SHARD_SOURCES", SHARD)
        label_corpus(recipe_of(make_recipe), out, top_k=4, on_references=True, progress=False)
    yield out


@pytest.fixture
def store(written: Path, tmp_path: Path) -> Path:
    """A copy of the written store, to be damaged."""
    return Path(shutil.copytree(written, tmp_path / "store"))


def test_a_store_has_the_teachers_hypotheses_and_distributions(
    make_recipe: Make, written: Path, tiny_run: Path
) -> None:
    opened, run = LabelStore.open(written), load_run(tiny_run)
    train = setup.set_up(recipe_of(make_recipe)).train
    rules = run.generation
    assert len(opened) == SOURCES and len(list(written.glob("shard-*.json"))) == 4
    for index in (0, SHARD - 1, SHARD, SOURCES - 1):
        source, mask = pad_sources([train.sources[index].tolist()], rules.pad_id)
        (expected,) = beam_search(run.model, rules, source, mask, num_beams=3, num_return=3)
        hypotheses = opened.hypotheses(index)
        assert [one.tokens for one in hypotheses] == [one.tokens for one in expected]
        assert [one.score for one in hypotheses] == pytest.approx([one.score for one in expected], abs=1e-4)
        check_top_k(opened.top_k(index), run, source, mask, expected[0].tokens)
    pairs = list(opened.pairs())
    assert [list(one) for one, _ in pairs] == [train.sources[index].tolist() for index in range(SOURCES)]


def check_top_k(top: TopK, run: Run, source: torch.Tensor, mask: torch.Tensor, tokens: list[int]) -> None:
    """Compares with the softmax of the model's logits after each token."""
    rules = run.generation
    allowed = [token for token in range(run.model.config.vocab_size) if token not in rules.suppressed_ids]
    context = torch.tensor([[rules.start_id, *tokens[:-1]]])
    with torch.no_grad():
        features = run.model.features(run.model.encode(source, mask), context)
    weight, bias = run.model.output_layer()
    logits = (features[0] @ weight.T + bias).detach().numpy()[:, allowed].astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    best = np.argsort(-probabilities, axis=1)[:, :4]
    assert top.ids.tolist() == np.array(allowed)[best].tolist()
    known = np.take_along_axis(probabilities, best, axis=1)
    assert np.exp(top.logs.astype(np.float64)) == pytest.approx(known, rel=5e-3, abs=1e-6)
    assert top.remaining == pytest.approx(1 - known.sum(axis=1), abs=1e-5)


def test_a_store_on_references_has_them_in_the_place_of_outputs(
    make_recipe: Make, on_references: Path, tiny_run: Path
) -> None:
    opened, run = LabelStore.open(on_references), load_run(tiny_run)
    train = setup.set_up(recipe_of(make_recipe)).train
    for index in (0, SHARD, SOURCES - 1):
        reference = train.targets[index].tolist()
        assert opened.output(index).tolist() == reference
        source, mask = pad_sources([train.sources[index].tolist()], run.generation.pad_id)
        check_top_k(opened.top_k(index), run, source, mask, reference)


def test_labels_on_other_contexts_are_refused(
    make_recipe: Make, written: Path, on_references: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="contexts: the labels are of references, the method learns on the teacher's"):
        setup.set_up(recipe_of(make_recipe, "seqkd", path="", labels=str(on_references)))
    with pytest.raises(DataError, match="contexts: the labels are of the teacher's outputs, the method learns on ref"):
        setup.set_up(recipe_of(make_recipe, "vanilla+full", path="", labels=str(written)))
    values = recipe_of(make_recipe, "vanilla+full", path="", labels=str(on_references)).model_dump()
    root = Path(values["data"]["root"])
    shutil.copytree(root, tmp_path / "corpus")
    lines = (tmp_path / "corpus/train.en").read_text().splitlines()
    (tmp_path / "corpus/train.en").write_text("\n".join([lines[1], *lines[1:]]) + "\n")
    values["data"]["root"] = str(tmp_path / "corpus")
    with pytest.raises(DataError, match="corpus: the recipe has other references"):
        setup.set_up(parse_recipe(values))
    for options in ({}, {"top_k": 4, "num_hypotheses": 2}):
        with pytest.raises(ConfigError, match=r"on references there are distributions alone"):
            label_corpus(recipe_of(make_recipe), tmp_path / "new", on_references=True, progress=False, **options)


@pytest.mark.parametrize("method", ["seqkd", "seqkd+full", "mbr", "vanilla+full"])
def test_training_from_a_store_without_a_teacher_is_training_with_it(
    make_recipe: Make,
    written: Path,
    on_references: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    written = on_references if method == "vanilla+full" else written
    live = distill(recipe_of(make_recipe, method), tmp_path / "live", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(setup, "load_teacher", None)  # there is none in memory
        recipe = recipe_of(make_recipe, method, path="", labels=str(written))
        stored = distill(recipe, tmp_path / "stored", progress=False)
    record, expected = (json.loads((run / "run.json").read_text()) for run in (stored, live))
    assert record["teacher"] == expected["teacher"]
    assert record["labels"]["outputs"] == SOURCES
    assert not (stored / "labels").exists()
    tokenizer = load_run(stored).tokenizer
    if method != "vanilla+full":  # with a teacher it writes no labels
        of_store, of_run = (list(teacher_pairs(run, tokenizer, None, None)) for run in (stored, live))
        assert [tuple(map(list, pair)) for pair in of_store] == [tuple(map(list, pair)) for pair in of_run]
    lines = [(run / "metrics.jsonl").read_text().splitlines() for run in (stored, live)]
    losses, wanted = ([json.loads(line)["loss"] for line in of_run if '"loss"' in line] for of_run in lines)
    assert losses == pytest.approx(wanted, rel=2e-3 if method.endswith("+full") else 1e-6) and len(losses) == 3


@pytest.mark.parametrize("method", ["seqkd+full", "vanilla+full"])
def test_stored_distributions_are_over_what_the_student_may_write(
    make_recipe: Make, written: Path, tmp_path: Path, method: str
) -> None:
    """Here a sixth of the tokens, so that the teacher's best ones are often not among them."""

    def recipe(**teacher: Any) -> Recipe:
        values = recipe_of(make_recipe, method, **teacher).model_dump()
        values["tokenizer"]["output_vocabulary"] = "targets"
        values["training"]["learning_rate"] = 1e-9  # every loss is that of the same student
        return parse_recipe(values)

    on_references = method == "vanilla+full"
    if not on_references:
        with pytest.raises(DataError, match=r"other tokens than the student may write \(tokenizer\.output_vocabulary"):
            setup.set_up(recipe(path="", labels=str(written)))
    label_corpus(recipe(), tmp_path / "labels", top_k=4, on_references=on_references, progress=False)
    live = distill(recipe(), tmp_path / "live", progress=False)
    stored = distill(recipe(path="", labels=str(tmp_path / "labels")), tmp_path / "stored", progress=False)
    assert losses(stored) == pytest.approx(losses(live), rel=1e-3)


def test_a_teacher_in_memory_is_used_where_labels_do_not_suffice(make_recipe: Make, written: Path) -> None:
    for method, in_memory in (("seqkd", False), ("seqkd+full", False), ("mbr+full", True)):
        assert (setup.set_up(recipe_of(make_recipe, method, labels=str(written))).teacher is not None) == in_memory
    values = recipe_of(make_recipe, "seqkd+full", labels=str(written)).model_dump()
    for fields in ({"teacher_top_k": None}, {"teacher_top_k": 5}, {"temperature": 2.0}):
        changed = parse_recipe(values | {"method": values["method"] | fields})
        assert setup.set_up(changed).teacher is not None


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("seqkd", {"size": 29}, r"corpus: 30 sources in the labels, 29 in the recipe"),
        ("seqkd", {"num_beams": 2}, r"teacher\.num_beams: 3 in the labels, 2 in the recipe"),
        ("seqkd", {"length_penalty": 0.3}, r"teacher\.length_penalty: None in the labels, 0\.3 in the recipe"),
    ],
)
def test_labels_of_another_recipe_are_refused(
    make_recipe: Make, written: Path, method: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=rf"teacher\.labels: .*store does not fit the recipe.*{message}"):
        setup.set_up(recipe_of(make_recipe, method, path="", labels=str(written), **changes))


def test_labels_of_other_sources_are_refused(make_recipe: Make, written: Path, tmp_path: Path) -> None:
    values = recipe_of(make_recipe, path="", labels=str(written)).model_dump()
    root = Path(values["data"]["root"])
    shutil.copytree(root, tmp_path / "corpus")
    lines = (tmp_path / "corpus/train.de").read_text().splitlines()
    lines[3] = lines[3].replace("Der", "Den")
    (tmp_path / "corpus/train.de").write_text("\n".join(lines) + "\n")
    values["data"]["root"] = str(tmp_path / "corpus")
    with pytest.raises(DataError, match="corpus: the recipe has as many sources, 30, but other ones"):
        setup.set_up(parse_recipe(values))


@pytest.fixture
def other_run(tiny_run: Path, tmp_path: Path) -> Path:
    """The tiny run with another value of a weight that is no embedding."""
    run = load_run(tiny_run)
    with torch.no_grad():
        list(run.model.parameters())[-1].view(-1)[0] += 0.01
    save_run(tmp_path / "other", run, weights=True)
    return tmp_path / "other"


def test_labels_of_another_teacher_are_refused(make_recipe: Make, written: Path, other_run: Path) -> None:
    with pytest.raises(DataError, match=r"teacher: the labels are of tiny .*, the recipe's is other .* other weights"):
        setup.set_up(recipe_of(make_recipe, path=str(other_run), labels=str(written)))
    with pytest.raises(DataError, match=r"has other labels \(teacher: .*choose another folder"):
        label_corpus(recipe_of(make_recipe, path=str(other_run)), written, num_hypotheses=3, top_k=4, progress=False)


def test_too_few_hypotheses_or_tokens_are_refused(make_recipe: Make, tmp_path: Path) -> None:
    out = tmp_path / "one"
    label_corpus(recipe_of(make_recipe), out, top_k=2, progress=False)
    with pytest.raises(DataError, match=r"num_hypotheses: 1 in the labels, seqinter compares 3 \(teacher\.num_beams\)"):
        setup.set_up(recipe_of(make_recipe, "seqinter", path="", labels=str(out)))
    with pytest.raises(DataError, match=r"has the 2 most probable tokens .* compares 4 .*--top-k 4"):
        setup.set_up(recipe_of(make_recipe, "seqkd+full", path="", labels=str(out)))
    with pytest.raises(DataError, match="num_hypotheses: 1 in the labels, 3 wanted; top_k: 2 in the labels, 0 wanted"):
        label_corpus(recipe_of(make_recipe), out, num_hypotheses=3, progress=False)
    with pytest.raises(ConfigError, match="num_hypotheses 4: a search with 3 beams has fewer outputs"):
        label_corpus(recipe_of(make_recipe), tmp_path / "new", num_hypotheses=4, progress=False)


@pytest.mark.parametrize(
    ("method", "teacher", "message"),
    [
        ("imitkd+full", {}, "teacher.labels: imitkd.full with contexts: references reads none"),
        ("seqkd", {"label_engine": "torch"}, "label_engine: torch has nothing to write"),
        ("mbr+full", {"path": ""}, "method.name: mbr.full asks the teacher for more than labels have"),
        ("seqkd", {"path": "", "labels": None}, "path: needed, or labels"),
    ],
)
def test_recipes_that_contradict_their_labels_are_refused(
    make_recipe: Make, method: str, teacher: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe_of(make_recipe, method, **{"labels": "labels", **teacher})


def test_word_level_targets_from_labels_are_of_the_best_tokens_alone(make_recipe: Make) -> None:
    values = recipe_of(make_recipe, "seqkd+full", path="", labels="labels").model_dump()
    for method in ({"teacher_top_k": None}, {"temperature": 2.0}):
        with pytest.raises(ConfigError, match=r"method\.teacher_top_k: labels have the most probable tokens alone"):
            parse_recipe(values | {"method": values["method"] | method})
    with pytest.raises(ConfigError, match=r"teacher_layers needs the teacher's weights: give teacher\.path, too"):
        parse_recipe(values | {"training": values["training"] | {"initialization": "teacher_layers"}})


def truncate(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-7])


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (truncate, "shard 1 of 4 is damaged .shard-00001.safetensors: truncated or altered"),
    "empty": (lambda shard: shard.write_bytes(b""), "shard 1 of 4 is damaged"),
    "missing": (Path.unlink, "shard 1 of 4 is damaged .*shard-00001.safetensors"),
    "unfinished": (lambda shard: shard.with_suffix(".json").unlink(), "shard 1 of 4 is missing"),
    "broken record": (lambda shard: shard.with_suffix(".json").write_text('{"sources"'), "shard 1 of 4 is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_refused_and_written_anew(
    make_recipe: Make, store: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    change, message = DAMAGES[damage]
    whole = LabelStore.open(store)
    expected = [[one.tokens for one in whole.hypotheses(index)] for index in range(SOURCES)]
    change(store / "shard-00001.safetensors")
    with pytest.raises(DataError, match=message + r".*continue `compress label` with the same options"):
        setup.set_up(recipe_of(make_recipe, path="", labels=str(store)))
    numbers, write = list[int](), labels.write_shard

    def watched(folder: Path, record: Any, number: int, *content: Any, **engine: Any) -> None:
        numbers.append(number)
        write(folder, record, number, *content, **engine)

    monkeypatch.setattr(labels, "write_shard", watched)
    again = label_corpus(recipe_of(make_recipe), store, num_hypotheses=3, top_k=4, progress=False)
    assert numbers == [1]
    assert [[one.tokens for one in again.hypotheses(index)] for index in range(SOURCES)] == expected


def test_a_store_of_another_version_is_refused(make_recipe: Make, store: Path) -> None:
    record = json.loads((store / "labels.json").read_text())
    (store / "labels.json").write_text(json.dumps(record | {"format": 9}))
    with pytest.raises(DataError, match="labels of format 9, this version reads 2; write them anew"):
        LabelStore.open(store)
    with pytest.raises(DataError, match=r"no labels \(labels\.json is missing\); write them with `compress label`"):
        LabelStore.open(store / "tokenizer")


def test_a_full_disk_leaves_finished_shards(make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, recipe, syncs = tmp_path / "store", recipe_of(make_recipe), list[int]()

    def full(_: int) -> None:
        syncs.append(1)
        if (out / "shard-00001.json").exists():  # in the midst of the third
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("compressor.files.os.fsync", full)
        with pytest.raises(StorageError, match=r"shard-00002\.safetensors: the disk is full"):
            label_corpus(recipe, out, progress=False)
    assert sorted(path.name for path in out.glob("*shard*.json")) == ["shard-00000.json", "shard-00001.json"]
    before = (out / "shard-00001.json").stat().st_mtime_ns
    assert len(label_corpus(recipe, out, progress=False)) == SOURCES
    assert (out / "shard-00001.json").stat().st_mtime_ns == before


def test_one_process_writes_a_store(make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, recipe, refused = tmp_path / "store", recipe_of(make_recipe), list[str]()
    write = label_run.write_labels

    def second(*arguments: Any, **options: Any) -> LabelStore:
        with pytest.raises(OutputExistsError) as error:
            label_corpus(recipe, tmp_path / "." / "store", progress=False)
        refused.append(str(error.value))
        return write(*arguments, **options)

    monkeypatch.setattr(label_run, "write_labels", second)
    label_corpus(recipe, out, progress=False)
    assert len(refused) == 1 and f"process {os.getpid()} is writing these labels" in refused[0]


def test_only_labels_are_replaced(make_recipe: Make, store: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/text").write_text("mine")
    for options, message in (({}, "exists already and has no labels"), ({"force": True}, "nor a folder of labels")):
        with pytest.raises(OutputExistsError, match=message):
            label_corpus(recipe_of(make_recipe), tmp_path / "mine", progress=False, **options)
    replaced = label_corpus(recipe_of(make_recipe, size=9), store, progress=False, force=True)
    assert len(replaced) == 9 and replaced.record.num_hypotheses == 1


def test_a_run_whose_labels_are_another_methods_writes_its_own(make_recipe: Make, tmp_path: Path) -> None:
    for method, count in (("seqkd", 1), ("mbr", 3)):
        out = distill(recipe_of(make_recipe, method), tmp_path / "run", progress=False, force=True)
        assert LabelStore.open(out / "labels").record.num_hypotheses == count


@pytest.mark.parametrize("content", [{"top_k": 2}, {"num_hypotheses": 3}, {}])
def test_nan_of_the_teacher_is_an_error(
    make_recipe: Make, tiny_run: Path, tmp_path: Path, content: dict[str, int]
) -> None:
    run = load_run(tiny_run)
    with torch.no_grad():
        list(run.model.parameters())[-1].view(-1)[0] = torch.nan
    save_run(tmp_path / "damaged", run, weights=True)
    with pytest.raises(ModelError, match="teacher damaged: its output has NaN"):
        label_corpus(
            recipe_of(make_recipe, path=str(tmp_path / "damaged")), tmp_path / "store", **content, progress=False
        )


def test_labels_of_an_augmented_corpus_are_those_that_a_run_reads(make_recipe: Make, tmp_path: Path) -> None:
    values = recipe_of(make_recipe).model_dump()
    values["data"]["augmentation"] |= {"upper_case": 0.5}
    for name in ("vanilla", "seqkd"):
        label_corpus(parse_recipe(values | {"method": {"name": name}}), tmp_path / name, progress=False)
    one, other = (LabelStore.open(tmp_path / name) for name in ("vanilla", "seqkd"))
    assert one.record == other.record
    values["teacher"] |= {"path": "", "labels": str(tmp_path / "vanilla")}
    made = setup.set_up(parse_recipe(values))
    assert Trainer(made).setup.teacher is None

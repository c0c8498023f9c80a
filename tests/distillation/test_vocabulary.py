"""A student with the part of its teacher's vocabulary that occurs in the corpus, from recipe to bundle."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import yaml
from safetensors.numpy import load
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import compressor
from compressor.bundle import open_bundle
from compressor.config import Recipe, TokenizerConfig, load_recipe, parse_recipe
from compressor.decoding.search import greedy, pad_sources
from compressor.distillation.evaluation import dev_outputs, lost_mass
from compressor.distillation.label_run import label_corpus
from compressor.distillation.label_store import recorded_pairs
from compressor.distillation.labels import written_tokens
from compressor.distillation.ray_labels import ShardWorker
from compressor.distillation.run import distill
from compressor.distillation.setup import Setup, set_up
from compressor.distillation.trainer import Trainer
from compressor.errors import ConfigError, DataError, VocabularyError
from compressor.models.weights import load_run
from compressor.run_folder import LABELS_FOLDER, read_record
from compressor.teachers.vocabulary_subset import SubsetTeacher
from tests.teachers import checkpoints

Make = Callable[..., Recipe]
CORPUS = (
    ["Den Hund sieht der Baum.", "Den Baum sieht der Hund.", "Der Hund sieht.", "Der Baum sieht."],
    ["The tree sees the dog.", "The dog sees the tree.", "The dog sees.", "The tree sees."],
)
TEXTS = ["Der Hund sieht den Baum.", "Der Vogel ruft den Tisch."]


@pytest.fixture(scope="module")
def teachers(tiny_run: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    marian = tmp_path_factory.mktemp("marian")
    texts = [(tiny_corpus / f"train.{language}").read_text("utf-8").splitlines() for language in ("de", "en")]
    checkpoints.marian(marian, texts)
    return {"native": tiny_run, "marian": marian}


@pytest.fixture(scope="module")
def make(tiny_recipe: Path, teachers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """``make("native", training={...})``: a corpus of few words, of which the teacher knows more."""
    text, folder = tiny_recipe.read_text(encoding="utf-8"), tmp_path_factory.mktemp("few")
    for language, lines in zip(("de", "en"), CORPUS, strict=True):
        (folder / language).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def recipe(name: str, **sections: dict[str, Any]) -> Recipe:
        values = yaml.safe_load(text)
        values["data"]["train"] = [{"source": str(folder / "de"), "target": str(folder / "en")}]
        values["teacher"] = {"path": str(teachers[name]), "num_beams": 2}
        values["tokenizer"] = {"vocabulary": "corpus"}
        values["method"] = {"name": "imitkd+full", "schedule": {"name": "constant", "value": 0.5}}
        values["training"] |= {"updates": 4, "batch_tokens": 120, "eval_every": 2}
        for section, fields in sections.items():
            values[section] |= fields
        return parse_recipe(values)

    return recipe


@pytest.fixture(scope="module", params=["native", "marian"])
def teacher(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def run_folder(teacher: str, make: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return distill(make(teacher), tmp_path_factory.mktemp("runs") / teacher, progress=False)


def subset(setup: Setup) -> SubsetTeacher:
    assert isinstance(setup.teacher, SubsetTeacher)
    return setup.teacher


def test_a_run_has_the_smaller_vocabulary_and_its_record(run_folder: Path) -> None:
    run, record = load_run(run_folder), read_record(run_folder)
    assert record.vocabulary is not None
    assert len(run.tokenizer.vocab) == run.model.config.vocab_size == record.vocabulary.tokens
    assert record.vocabulary.tokens < record.vocabulary.teacher_tokens
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    masses = [line["lost_mass"] for line in lines if "dev" in line]
    assert len(masses) == 2 and all(0 < mass < 1 for mass in masses)
    assert record.vocabulary.lost_mass == masses[-1]
    for text in TEXTS:
        assert run.tokenizer.decode_source(run.tokenizer.encode_source(text)) == text


def test_tokens_of_the_corpus_are_the_vocabulary(make: Make, teacher: str) -> None:
    setup = set_up(make(teacher))
    small = subset(setup)
    whole = small.whole.tokenizer
    expected = {index for text in CORPUS[0] for index in whole.encode_source(text)}
    expected |= {index for text in CORPUS[1] for index in whole.encode_target(text)}
    special = {"<unk>", "<s>", "</s>", "<pad>", ">>en<<"}
    for token in set(whole.vocab) - special:
        is_long = len(token.replace("▁", "")) > 1
        assert (token in small.tokenizer.vocab) == (whole.vocab[token] in expected or not is_long)
    for row, text in enumerate(CORPUS[0]):
        assert small.theirs[setup.train.sources[row].tolist()].tolist() == whole.encode_source(text)


def test_lost_mass_is_the_mean_over_the_students_outputs(make: Make, teacher: str) -> None:
    setup = set_up(make(teacher))
    small, outputs = subset(setup), dev_outputs(setup)
    allowed = small.whole.tokenizer.vocab.keys() - {"<pad>"}
    if teacher == "native":
        allowed -= {"<s>"}
    outside = [small.whole.tokenizer.vocab[token] for token in allowed - small.tokenizer.vocab.keys()]
    counted = [small.whole.tokenizer.vocab[token] for token in allowed]
    names = {index: token for token, index in small.tokenizer.vocab.items()}
    masses = []
    for example, output in zip(setup.dev, outputs, strict=True):
        source = torch.tensor(
            [[small.whole.tokenizer.vocab[names[index]] for index in small.tokenizer.encode_source(example.source)]]
        )
        ids = [small.whole.tokenizer.vocab[names[index]] for index in [setup.generation.start_id, *output]]
        counting = torch.ones(1, len(output), dtype=torch.bool)
        counting[0, setup.generation.max_new_tokens - 1 :] = False  # the end of sentence is forced
        logits = small.whole.logits(source, source > -1, torch.tensor([ids[:-1]]), counting)
        probabilities = logits.double().exp()
        masses += (probabilities[:, outside].sum(dim=1) / probabilities[:, counted].sum(dim=1)).tolist()
    assert lost_mass(setup, outputs) == pytest.approx(sum(masses) / len(masses), rel=1e-4)


def test_a_student_with_all_tokens_loses_nothing(make: Make) -> None:
    setup = set_up(make("native", tokenizer={"vocabulary": "teacher"}))
    assert not isinstance(setup.teacher, SubsetTeacher)
    assert lost_mass(setup, dev_outputs(setup)) is None


def test_layers_of_the_teacher_give_its_logits(make: Make) -> None:
    setup = set_up(make("native", training={"initialization": "teacher_layers"}))
    batch = Trainer(setup).batches.collate([0, 1, 2])
    context = torch.full((3, 1), setup.generation.start_id)
    student = setup.student.eval()
    ours = student.decode(student.encode(batch.source, batch.source_mask), context)[:, 0]
    theirs = subset(setup).logits(batch.source, batch.source_mask, context, torch.ones_like(context, dtype=torch.bool))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_embeddings_start_from_the_rows_of_the_tokens(make: Make) -> None:
    """At the teacher's width its principal components are all there: distances between tokens stay, up to scale."""
    setup = set_up(make("native", training={"initialization": "teacher_embeddings"}))
    small = subset(setup)
    real = [index for index in range(small.vocab_size) if index != setup.generation.pad_id]
    ours = setup.student.target_embeddings()[real]
    theirs = small.whole.embeddings()[small.theirs][real]
    ratios = torch.cdist(ours, ours)[0, 1:] / torch.cdist(theirs, theirs)[0, 1:]
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios), rtol=1e-3, atol=0)


def test_labels_and_speculative_rollouts_have_the_students_tokens(make: Make, tmp_path: Path) -> None:
    out = distill(make("marian", method={"name": "seqkd"}), tmp_path / "seqkd", progress=False)
    size = load_run(out).model.config.vocab_size
    tokens = [int(token) for _, output in recorded_pairs(out / LABELS_FOLDER) for token in output]
    assert tokens and max(tokens) < size
    recipe = make("native", method={"rollout": {"strategy": "speculative", "teacher_top_k": 2}})
    assert read_record(distill(recipe, tmp_path / "speculative", progress=False)).finished


def test_labels_of_the_smaller_vocabulary_need_no_teacher(make: Make, tmp_path: Path) -> None:
    store = label_corpus(make("marian", method={"name": "seqkd"}), tmp_path / "labels", progress=False)
    tokenizer = store.teacher().tokenizer
    labels = {"labels": str(tmp_path / "labels")}
    run = load_run(distill(_seqkd(make, path=None, **labels), tmp_path / "run", progress=False))
    assert run.tokenizer.vocab == tokenizer.vocab
    setup = set_up(_seqkd(make))
    references = [setup.tokenizer.encode_target(example.target) for example in setup.dev]
    record, lost = run.record.vocabulary, lost_mass(setup, references)
    assert (record.tokens, record.teacher_tokens) == (len(tokenizer.vocab), setup.teacher.whole.vocab_size)
    assert record.lost_mass == pytest.approx(lost, abs=1e-6) and lost > 0
    assert run.model.config.vocab_size == store.record.teacher.vocab_size == len(tokenizer.vocab)
    both = set_up(_seqkd(make, **labels))
    assert both.tokenizer.vocab == tokenizer.vocab and isinstance(both.teacher_facts, SubsetTeacher)
    whole = _seqkd(make, path=None, **labels).model_copy(update={"tokenizer": TokenizerConfig()})
    with pytest.raises(DataError, match=r"tokenizer\.vocabulary: 'corpus' in the labels, None in the recipe"):
        set_up(whole)


def _seqkd(make: Make, **teacher: Any) -> Recipe:
    return make("marian", method={"name": "seqkd"}, teacher=teacher)


def test_a_worker_of_a_cluster_has_the_students_ids(make: Make, tmp_path: Path) -> None:
    recipe = make("marian", method={"name": "seqkd"})
    store = label_corpus(recipe, tmp_path / "labels", progress=False)
    setup = set_up(recipe)
    sources = [setup.train.sources[index].tolist() for index in range(2)]
    row = {"shard": 0, "sources": sources, "references": None}
    worker = pickle.loads(pickle.dumps(ShardWorker(recipe, store.record, setup.tokenizer, written_tokens(setup))))
    (labelled,) = worker(pa.Table.from_pylist([row])).to_pylist()
    assert not labelled["error"]
    tokens = load(labelled["content"])["tokens"]
    expected = [token for index in range(2) for token in store.output(index)]
    assert tokens.tolist() == expected


def test_another_run_goes_on_with_the_smaller_vocabulary(make: Make, run_folder: Path, teacher: str) -> None:
    more = {"train": [{"source": "train.de", "target": "train.en"}]}  # words that do not change it
    setup = set_up(make(teacher, data=more, training={"initialization": str(run_folder)}))
    assert setup.tokenizer.vocab == load_run(run_folder).tokenizer.vocab
    assert subset(setup).vocab_size == len(setup.tokenizer.vocab)
    with pytest.raises(VocabularyError, match="vocabularies differ"):
        set_up(make(teacher, tokenizer={"vocabulary": "teacher"}, training={"initialization": str(run_folder)}))


def test_augmented_text_counts_as_corpus(make: Make, tmp_path: Path) -> None:
    nouns = ("Hund", "Baum", "Mann", "Tisch", "Vogel", "Arzt")
    (tmp_path / "capital").write_text("".join(f"Boy {noun}.\n" for noun in nouns), encoding="utf-8")
    train = {"train": [{"source": str(tmp_path / "capital"), "target": str(tmp_path / "capital")}]}
    plain, changed = (
        subset(set_up(make("native", data={**train, "augmentation": {"lower_case": share}}))) for share in (0.0, 0.9)
    )
    assert changed.tokenizer.vocab.keys() - plain.tokenizer.vocab.keys() >= {"▁boy"}


def test_without_a_teacher_it_is_refused_and_train_ignores_it(make: Make, tmp_path: Path) -> None:
    values = make("native").model_dump(mode="json") | {"method": {"name": "vanilla"}}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values | {"teacher": None}), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_recipe(path)
    assert error.value.problems == [
        "tokenizer.vocabulary: corpus cuts a teacher's; without one it is trained on the corpus"
    ]
    assert load_recipe(path, without_teacher=True).tokenizer.vocabulary == "teacher"


def test_a_hugging_face_folder_has_the_smaller_vocabulary(run_folder: Path, tmp_path: Path) -> None:
    folder = compressor.export(run_folder, tmp_path / "hub", format="transformers", progress=False)
    run, tokenizer = load_run(run_folder), AutoTokenizer.from_pretrained(folder)
    assert AutoModelForSeq2SeqLM.from_pretrained(folder).config.vocab_size >= run.model.config.vocab_size
    for text in TEXTS:
        assert tokenizer(text).input_ids == run.tokenizer.encode_source(text)


@pytest.mark.slow
def test_a_bundle_writes_the_tokens_of_the_run(run_folder: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    options = {"dev_source": tiny_corpus / "dev.de", "dev_reference": tiny_corpus / "dev.en"}
    bundle = compressor.export(
        run_folder, tmp_path / "bundle", precisions=("fp32",), ungated=True, progress=False, **options
    )
    run = load_run(run_folder)
    assert open_bundle(bundle).vocab_size == run.model.config.vocab_size
    sources = [run.tokenizer.encode_source(text) for text in TEXTS]
    expected = greedy(run.model, run.generation, *pad_sources(sources, run.generation.pad_id))
    limit = run.generation.max_new_tokens
    assert compressor.load(bundle, intra_threads=1).generate_ids(sources, max_new_tokens=limit) == expected

"""Missing, damaged, incomplete and mismatched checkpoints are refused with one line that says what and where."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from compressor.config import parse_recipe
from compressor.errors import (
    CompressError,
    ConfigError,
    ModelError,
    VocabularyError,
)
from compressor.generation_config import GenerationConfig
from compressor.teacher_config import TeacherConfig
from compressor.teachers.base import Teacher, check_lengths, check_vocabularies
from compressor.teachers.huggingface import HuggingFaceTeacher
from compressor.teachers.registry import load_teacher
from tests.teachers.conftest import SENTENCES, Pair

Damage = Callable[[Path], Any]


@pytest.fixture
def marian(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A Marian checkpoint that a test may damage."""
    return Path(shutil.copytree(checkpoint("marian"), tmp_path / "marian"))


def refusal(path: Path | str, kind: type[CompressError] = ModelError) -> str:
    with pytest.raises(kind) as error:
        load_teacher(TeacherConfig(path=str(path)))
    message = str(error.value)
    assert "\n" not in message and len(message) < 400
    assert str(path) in message
    return message


def edit(name: str, **changes: Any) -> Damage:
    def apply(folder: Path) -> None:
        values = json.loads((folder / name).read_text("utf-8"))
        (folder / name).write_text(json.dumps(values | changes), "utf-8")

    return apply


def cut(name: str, share: float = 0.5) -> Damage:
    return lambda folder: (folder / name).write_bytes(
        (content := (folder / name).read_bytes())[: int(share * len(content))]
    )


def drop_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({n: t for n, t in weights.items() if "decoder.layers.0.fc1" not in n}, folder / "model.safetensors")


def add_tokens(folder: Path) -> None:
    vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
    extra = {f"more{i}": len(vocabulary) + i for i in range(3)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary | extra), "utf-8")


DAMAGED: dict[str, tuple[Damage, str]] = {
    "config is cut": (cut("config.json"), "its model cannot be loaded .*config.json"),
    "config of another kind": (edit("config.json", model_type="gpt2"), "it is not an encoder-decoder"),
    "config of an unknown kind": (edit("config.json", model_type="nothing"), "model type `nothing`"),
    "another width": (edit("config.json", d_model=32), r"weights do not fit config.json, first .*16.* instead of .*32"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "its model cannot be loaded"),
    "weights are cut": (cut("model.safetensors"), "its model cannot be loaded"),
    "weights are empty": (cut("model.safetensors", 0), "its model cannot be loaded"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no file named model.safetensors"),
    "some weights are gone": (drop_weights, "2 weights are missing, first model.decoder.layers.0.fc1.bias"),
    "rules are cut": (cut("generation_config.json"), "its generation_config.json cannot be loaded"),
    "a tokenizer file is cut": (cut("source.spm"), "its tokenizer cannot be loaded .*source.spm"),
    "no target.spm": (lambda folder: (folder / "target.spm").unlink(), "its tokenizer cannot be loaded"),
    "vocabulary is cut": (cut("vocab.json"), "its tokenizer cannot be loaded"),
    "more tokens than rows": (add_tokens, "the tokenizer has ids up to .* they do not belong together"),
    "another end": (edit("generation_config.json", eos_token_id=5), "end of sentence is 5 .* and 0 in the tokenizer"),
    "bad words of two tokens": (
        edit("generation_config.json", bad_words_ids=[[3, 4]]),
        "bad_words_ids of several tokens",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_checkpoint_is_refused_in_one_line(marian: Path, name: str) -> None:
    damage, expected = DAMAGED[name]
    damage(marian)
    assert re.search(expected, refusal(marian))


def test_missing_folder_is_refused_without_asking_the_hub(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nothing").endswith("no such folder")
    assert refusal("./nothing").endswith("no such folder")
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file").endswith("no such folder")
    assert "cannot be loaded" in refusal("someone/nothing")  # a hub name, and the tests are offline


def as_pickle(folder: Path, content: Any) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")


def test_bin_file_with_only_weights_loads(marian: Path) -> None:
    expected = HuggingFaceTeacher(TeacherConfig(path=str(marian)))
    as_pickle(marian, expected.model.state_dict())
    teacher = load_teacher(TeacherConfig(path=str(marian)))
    assert isinstance(teacher, HuggingFaceTeacher)
    weights = expected.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in teacher.model.state_dict().items())


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (self.path,))  # type: ignore[return-value]


@pytest.mark.parametrize("plain", [False, True])
def test_pickle_with_code_is_refused_and_not_executed(marian: Path, tmp_path: Path, plain: bool) -> None:
    trace = tmp_path / "executed"
    if plain:
        (marian / "model.safetensors").unlink()
        (marian / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(trace)))
    else:
        as_pickle(marian, {"model.shared.weight": Payload(trace)})
    assert "holds more than weights and could run code" in refusal(marian)
    assert not trace.exists()


def test_code_in_the_folder_is_not_executed(marian: Path, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    (marian / "modeling_own.py").write_text(f"open({str(trace)!r}, 'w')\nclass Own: pass\n")
    edit("config.json", model_type="own", auto_map={"AutoConfig": "modeling_own.Own"})(marian)
    assert "code of its own, which is never run" in refusal(marian)
    assert not trace.exists()


def test_generation_options_are_read_from_config_json(marian: Path) -> None:
    (marian / "generation_config.json").unlink()
    edit("config.json", eos_token_id=0)(marian)
    teacher = load_teacher(TeacherConfig(path=str(marian)))
    assert teacher.generation.eos_id == 0 and teacher.generation.max_new_tokens == 40


def test_vocabularies_are_compared_as_token_to_id_maps(open_pair: Callable[[str], Pair]) -> None:
    teacher = open_pair("t5").ours  # its seven rows without a token do not matter
    vocab = dict(teacher.tokenizer.vocab)
    check_vocabularies(teacher, SimpleNamespace(vocab=dict(reversed(vocab.items()))))  # type: ignore[arg-type]
    swapped = vocab | {"▁": vocab["."], ".": vocab["▁"]}
    with pytest.raises(VocabularyError) as error:
        check_vocabularies(teacher, SimpleNamespace(vocab=swapped))  # type: ignore[arg-type]
    size = len(vocab)
    assert f"({size} and {size} tokens; 2 differ, first '.': {vocab['.']} and {vocab['▁']}" in str(error.value)
    shorter = {token: index for token, index in vocab.items() if token not in ("▁", ".", "</s>", "<pad>")}
    with pytest.raises(VocabularyError, match=rf"{size} and {size - 4} tokens; 4 differ, first '\.': \d+ and None"):
        check_vocabularies(teacher, SimpleNamespace(vocab=shorter))  # type: ignore[arg-type]


def lengths(source: int, target: int, student: int, rules: dict[str, Any]) -> list[str]:
    recipe = parse_recipe(
        {
            "task": "summarization",
            "data": {
                "train": [{"source": "a", "target": "b"}],
                "dev": [{"source": "a", "target": "b"}],
                "max_source_tokens": source,
                "max_target_tokens": target,
            },
            "student": {"max_length": student},
            "method": {"name": "vanilla"},
            "training": {"updates": 1},
        }
    )
    generation = GenerationConfig(start_id=0, eos_id=1, pad_id=0, **rules)
    teacher: Any = SimpleNamespace(name="t", max_source=20, max_context=20, generation=generation)
    try:
        check_lengths(teacher, recipe)
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    ("limits", "rules", "problems"),
    [
        ((20, 20, 20), {"forced_eos_id": 1}, []),
        ((20, 19, 20), {}, []),
        ((20, 20, 32), {}, ["data.max_target_tokens: 20 is more than the teacher's 19"]),
        ((20, 20, 32), {"forced_eos_id": 1, "forced_bos_id": 3},
         ["data.max_target_tokens: 20 is more than the teacher's 19"]),
        ((16, 16, 16), {"forced_bos_id": 3}, ["data.max_target_tokens: 16 is more than the student's 15"]),
        ((21, 30, 32), {}, ["data.max_source_tokens: 21 is more than the teacher's 20",
                            "data.max_target_tokens: 30 is more than the teacher's 19"]),
    ],
)  # fmt: skip
def test_lengths_beyond_the_teacher_or_student_are_refused(
    limits: tuple[int, int, int], rules: dict[str, Any], problems: list[str]
) -> None:
    assert lengths(*limits, rules) == problems


def test_max_context_is_the_longest_the_model_accepts(open_pair: Callable[[str], Pair]) -> None:
    """One position more is an error in the library."""
    pair = open_pair("bart")
    teacher: Teacher = pair.ours
    ids = pair.ours.tokenizer.encode_source(SENTENCES[0])
    source, mask = torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool)
    assert teacher.max_context is not None
    for length in (teacher.max_context, teacher.max_context + 1):
        context = torch.full((1, length), 3)
        loss_mask = torch.ones_like(context, dtype=torch.bool)
        if length == teacher.max_context:
            assert teacher.logits(source, mask, context, loss_mask).shape == (length, teacher.vocab_size)
        else:
            with pytest.raises(IndexError):
                teacher.logits(source, mask, context, loss_mask)

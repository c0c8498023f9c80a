"""Order and blanks of a translated file, and what a score says of itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.engines.base import EngineSpec
from benchmarks.engines.process import Reply
from benchmarks.quality.config import EvaluateConfig
from benchmarks.quality.evaluate import counts, evaluate, read_test_set, translate_all
from compressor.errors import ConfigError, DataError


def test_outputs_keep_their_lines_and_blank_stays_blank(stage: Any) -> None:
    host = stage.connect(EngineSpec(engine="torch", model="student", path="x"), 1)
    seen: list[tuple[int, int]] = []
    sources = ["ccc", "", "a", "  ", "bb"]
    outputs = translate_all(host, sources, 1, 2, lambda done, total: seen.append((done, total)))
    assert outputs == ["CCC", "", "A", "", "BB"]
    assert [texts for _, texts, _ in stage.log] == [2, 1]
    assert seen == [(2, 3), (3, 3)]


def test_outputs_that_are_not_whole_are_counted() -> None:
    class Told:
        def translate(self, texts: list[str], num_beams: int) -> Reply:
            names = {"l": "length", "r": "repetition"}
            reasons: Any = [names.get(text[0], "eos") for text in texts]
            return Reply(0.0, texts, [1] * len(texts), reasons, sum(len(text) > 3 for text in texts))

    host: Any = Told()
    counter: Counter[str] = Counter()
    translate_all(host, ["loud", "", "red", "a", "low"], 1, 2, counter=counter)
    assert counts(counter) == {"length_stops": 2, "repetition_stops": 1, "cut_sources": 1}
    untold = {"length_stops": None, "repetition_stops": None, "cut_sources": None}
    assert counts(Counter()) == untold
    assert counts(Counter(eos=3)) == untold | {"length_stops": 0, "repetition_stops": 0}


def test_a_bundle_is_scored_in_its_default_precision(
    stage: Any, manifest_only: Path, test_set: Callable[[int], tuple[Path, Path]]
) -> None:
    source, reference = test_set(5)
    config = EvaluateConfig(source=source, reference=reference)
    done = evaluate(manifest_only, config, connect=stage.connect)
    assert (done.scores["engine"], done.scores["precision"], done.scores["task"]) == ("onnx", "int8", "translation")
    assert (done.scores["bleu"], done.scores["sentences"], done.scores["rouge_l"]) == (100.0, 5, None)
    assert done.hypotheses[0] == "SENTENCE NUMBER 0 OF THIS FILE"
    assert stage.hosts[0].closed
    with pytest.raises(ConfigError, match="at most 1 beam"):
        evaluate(manifest_only, config.model_copy(update={"num_beams": 5}), connect=stage.connect)


def test_json_lines_hold_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps({"source": s, "target": t}) + "\n" for s, t in [("a", "b"), ("c", "d")]))
    assert read_test_set(path, None) == (["a", "c"], ["b", "d"])


FILES = {
    "text": ("s.de", "r.en", "a\nc\n", "b\nd\n"),
    "json lines": ("s.jsonl", "r.jsonl", '{"source": "a"}\n{"source": "c"}\n', '{"target": "b"}\n{"target": "d"}\n'),
    "csv": ("s.csv", "r.csv", "source,id\na,1\nc,2\n", "id,target\n1,b\n2,d\n"),
}


@pytest.mark.parametrize("sources", FILES)
@pytest.mark.parametrize("references", FILES)
def test_sources_and_references_may_be_of_different_kinds(tmp_path: Path, sources: str, references: str) -> None:
    source, reference = tmp_path / FILES[sources][0], tmp_path / FILES[references][1]
    source.write_text(FILES[sources][2])
    reference.write_text(FILES[references][3])
    assert read_test_set(source, reference) == (["a", "c"], ["b", "d"])
    both = tmp_path / "both.jsonl"
    both.write_text('{"source": "a", "target": "x"}\n{"source": "c", "target": "y"}\n')
    assert read_test_set(both, reference) == (["a", "c"], ["b", "d"])
    both.write_text('{"source": "a", "target": "x"}\n')
    with pytest.raises(DataError, match=r"1 sources but .* has 2 references"):
        read_test_set(both, reference)


def test_a_checkpoint_is_told_its_task_and_languages(
    stage: Any, manifest_only: Path, test_set: Callable[[int], tuple[Path, Path]]
) -> None:
    source, reference = test_set(2)
    config = EvaluateConfig(source=source, reference=reference, source_prefix="translate: ", target_language="en_XX")
    stage.cast = {"student transformers fp32": (0.1, 10, None)}
    evaluate("owner/name", config, connect=stage.connect)
    spec = stage.hosts[0].spec
    assert (spec.source_prefix, spec.target_language, spec.source_language) == ("translate: ", "en_XX", None)
    with pytest.raises(ConfigError, match="source_prefix, target_language: for Hugging Face checkpoints"):
        evaluate(manifest_only, config, connect=stage.connect)

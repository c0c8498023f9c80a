"""Beam search in the graph against Hugging Face `generate` on the same weights: tokens, n-best, scores, stopping."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from compressor.exporters.graphs.search_loop import build_graphs
from compressor.generation_config import until_eos
from compressor.teachers.conversion.marian import to_marian
from tests.models.test_transformer import EOS, PAD, RULES, VOCAB, model, sources

GENERATION = RULES.model_copy(update={"begin_suppressed_ids": (7, 11, 12)})
DEFAULTS: dict[str, Any] = {
    "num_beams": 3,
    "max_new_tokens": 12,
    "min_new_tokens": 0,
    "no_repeat_ngram_size": 0,
    "length_penalty": 1.0,
    "early_stopping": False,
}
PER_SENTENCE = ("max_new_tokens", "min_new_tokens", "length_penalty")
STOPPING = {False: 0, True: 1, "never": 2}


def ending_model(**sizes: int) -> Any:
    """Its outputs end, and at different lengths."""
    built = model(**sizes)
    with torch.no_grad():
        built.output_bias[EOS] += 5.0
    return built


def sessions(graphs: Mapping[str, ir.Model], folder: Path) -> dict[str, Any]:
    """Opens graphs in ONNX Runtime, from files in ``folder``."""
    for name, graph in graphs.items():
        ir.save(graph, folder / f"{name}.onnx")
    return {name: onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in graphs}


@pytest.fixture(scope="module")
def net() -> Any:
    return ending_model()


@pytest.fixture(scope="module")
def graphs(net: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    graphs = build_graphs(net, GENERATION)
    return sessions({name: graphs[name] for name in ("generate", "generate_beams")}, tmp_path_factory.mktemp("beams"))


def feeds(ids: torch.Tensor, mask: torch.Tensor, prefix: torch.Tensor, **options: Any) -> dict[str, Any]:
    chosen = {**DEFAULTS, **options}
    chosen["early_stopping"] = STOPPING[chosen["early_stopping"]]
    values = {
        name: np.array(value, np.float32 if name == "length_penalty" else np.int64) for name, value in chosen.items()
    }
    for name in PER_SENTENCE:
        values[name] = np.broadcast_to(values[name], len(ids))
    return {"input_ids": ids.numpy(), "attention_mask": mask.long().numpy(), "prefix_ids": prefix.numpy(), **values}


def hugging_face(net: Any, ids: torch.Tensor, mask: torch.Tensor, prefix: torch.Tensor, **options: Any) -> Any:
    return generated(to_marian(net, GENERATION), ids, mask, prefix, **options)


def generated(peer: Any, ids: torch.Tensor, mask: torch.Tensor, prefix: torch.Tensor, **options: Any) -> Any:
    chosen = {**DEFAULTS, **options}
    longest = chosen.pop("max_new_tokens")
    start = torch.full((len(ids), 1), PAD)
    return peer.generate(
        input_ids=ids,
        attention_mask=mask.long(),
        decoder_input_ids=torch.cat([start, prefix], dim=1),
        max_new_tokens=longest - prefix.shape[1],
        begin_suppress_tokens=list(GENERATION.begin_suppressed_ids),
        num_return_sequences=chosen["num_beams"],
        return_dict_in_generate=True,
        output_scores=True,
        **{name: value or None if name == "min_new_tokens" else value for name, value in chosen.items()},
    )


CASES: list[dict[str, Any]] = [
    {},
    {"num_beams": 2},
    {"num_beams": 7},
    {"max_new_tokens": 2},
    {"max_new_tokens": 25},
    {"length_penalty": 0.0},
    {"length_penalty": 2.0},
    {"length_penalty": -1.0},
    {"early_stopping": True},
    {"early_stopping": "never"},
    {"early_stopping": "never", "length_penalty": 2.0},
    {"early_stopping": "never", "length_penalty": -0.5},
    {"min_new_tokens": 6},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3, "max_new_tokens": 25},
    {"prefix": 2},
    {"prefix": 3, "early_stopping": True, "min_new_tokens": 2, "no_repeat_ngram_size": 2, "num_beams": 4},
]


@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_scores_are_hugging_faces(
    net: Any, graphs: dict[str, Any], case: dict[str, Any], batch: int
) -> None:
    options = dict(case)
    ids, mask = sources(batch)
    prefix = torch.randint(1, VOCAB - 1, (batch, options.pop("prefix", 0)), generator=torch.Generator().manual_seed(4))
    expected = hugging_face(net, ids, mask, prefix, **options)
    outputs, scores = graphs["generate_beams"].run(["output_ids", "scores"], feeds(ids, mask, prefix, **options))
    beams = options.get("num_beams", DEFAULTS["num_beams"])
    wanted = [until_eos(row, EOS, PAD) for row in expected.sequences[:, 1:].tolist()]
    assert [until_eos(row, EOS, PAD) for row in outputs.reshape(batch * beams, -1).tolist()] == wanted
    np.testing.assert_allclose(scores.reshape(-1), expected.sequences_scores.numpy(), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"min_new_tokens": 5},
        {"no_repeat_ngram_size": 2, "max_new_tokens": 25},
        {"prefix": 3, "no_repeat_ngram_size": 2},
    ],
    ids=str,
)
def test_greedy_outputs_are_hugging_faces(net: Any, graphs: dict[str, Any], case: dict[str, Any]) -> None:
    options = {"num_beams": 1, **case}
    ids, mask = sources(9)
    prefix = torch.randint(1, VOCAB - 1, (9, options.pop("prefix", 0)), generator=torch.Generator().manual_seed(4))
    expected = hugging_face(net, ids, mask, prefix, **options).sequences[:, 1:].tolist()
    given = feeds(ids, mask, prefix, **options)
    wanted = {value.name for value in graphs["generate"].get_inputs()}
    (outputs,) = graphs["generate"].run(
        ["output_ids"], {name: value for name, value in given.items() if name in wanted}
    )
    assert [until_eos(row, EOS, PAD) for row in outputs.tolist()] == [until_eos(row, EOS, PAD) for row in expected]


PER_SENTENCE_CASES: list[dict[str, Any]] = [
    {"max_new_tokens": [4, 12, 2, 25, 7, 12, 3, 3, 25]},
    {"max_new_tokens": [9, 4, 20, 5, 6, 7, 8, 2, 3], "min_new_tokens": [8, 0, 12, 3, 0, 6, 2, 0, 0]},
    {"length_penalty": [0.0, 1.0, 2.0, -1.0, 0.5, 1.0, 3.0, -2.0, 1.5], "early_stopping": "never"},
    {"max_new_tokens": [6, 12, 5, 25, 7, 12, 6, 8, 25], "prefix": 3, "min_new_tokens": [2, 0, 0, 9, 0, 1, 0, 1, 5]},
]


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("case", PER_SENTENCE_CASES, ids=str)
def test_each_sentence_has_its_own_limits_as_hugging_face_has_them_alone(
    net: Any, graphs: dict[str, Any], case: dict[str, Any], num_beams: int
) -> None:
    options = {"num_beams": num_beams, **case}
    ids, mask = sources(9)
    prefix = torch.randint(1, VOCAB - 1, (9, options.pop("prefix", 0)), generator=torch.Generator().manual_seed(4))
    graph = graphs["generate" if num_beams == 1 else "generate_beams"]
    names = {given.name for given in graph.get_inputs()}
    given = {name: value for name, value in feeds(ids, mask, prefix, **options).items() if name in names}
    outputs, *scores = graph.run(None, given)
    for row in range(9):
        alone = {name: value[row] if isinstance(value, list) else value for name, value in options.items()}
        part, width = slice(row, row + 1), int(mask[row].sum())
        expected = hugging_face(net, ids[part, :width], mask[part, :width], prefix[part], **alone)
        wanted = [until_eos(one, EOS, PAD) for one in expected.sequences[:, 1:].tolist()]
        assert [until_eos(one, EOS, PAD) for one in outputs[row].reshape(num_beams, -1).tolist()] == wanted
        if scores:
            np.testing.assert_allclose(scores[0][row], expected.sequences_scores.numpy(), atol=1e-4, rtol=0)


def test_a_source_has_one_output_in_every_batch(graphs: dict[str, Any]) -> None:
    ids, mask = sources(24)
    run = graphs["generate_beams"].run
    none = torch.zeros(24, 0, dtype=torch.int64)
    together, scores = run(["output_ids", "scores"], feeds(ids, mask, none))
    lengths = set()
    for row in range(24):
        width = int(mask[row].sum())
        alone, score = run(
            ["output_ids", "scores"], feeds(ids[row : row + 1, :width], mask[row : row + 1, :width], none[:1])
        )
        pairs = zip(together[row].tolist(), alone[0].tolist(), strict=True)
        assert all(until_eos(one, EOS, PAD) == until_eos(other, EOS, PAD) for one, other in pairs)
        np.testing.assert_allclose(scores[row], score[0], atol=1e-5)
        lengths.add(len(until_eos(alone[0, 0].tolist(), EOS, PAD)))
    assert len(lengths) > 3  # sentences did leave the batch at different times


@pytest.mark.slow
@pytest.mark.parametrize("many", [False, True], ids=["few suppressed", "many suppressed"])
def test_a_wide_vocabulary_is_searched_in_groups_with_the_same_outputs(tmp_path: Path, many: bool) -> None:
    """Above 136 groups of 32 columns; where many tokens are suppressed, the columns are filled up to whole groups."""
    vocab = 5536
    net = ending_model(vocab_size=vocab, pad_id=vocab - 1)
    suppressed = (*range(1, vocab, 7), vocab - 1) if many else (vocab - 1, 11)
    rules = RULES.model_copy(update={"start_id": vocab - 1, "pad_id": vocab - 1, "suppressed_ids": suppressed})
    graphs = build_graphs(net, rules)
    columns = {value.shape[-1] for value in graphs["decoder_step"].graph.outputs if value.name == "logits"}
    assert columns == {-(-(vocab - len(set(suppressed))) // 32) * 32 if many else vocab}
    ir.save(graphs["generate_beams"], tmp_path / "beams.onnx")
    ids, mask = torch.randint(12, vocab - 1, (6, 9), generator=torch.Generator().manual_seed(2)), torch.ones(6, 9)
    given = feeds(ids, mask, ids[:, :0], num_beams=5)
    output_ids, scores = onnxruntime.InferenceSession(tmp_path / "beams.onnx").run(["output_ids", "scores"], given)
    if many:  # tokens without a column are in no distribution
        rules = rules.model_copy(update={"suppressed_ids": ()})
        with torch.no_grad():
            net.output_bias[list(suppressed)] = -1e9
    wanted = to_marian(net, rules).generate(
        input_ids=ids,
        attention_mask=mask.long(),
        num_beams=5,
        num_return_sequences=5,
        max_new_tokens=12,
        return_dict_in_generate=True,
        output_scores=True,
    )
    outputs, theirs = (
        [until_eos(row, EOS, vocab - 1) for row in rows]
        for rows in (output_ids.reshape(30, -1).tolist(), wanted.sequences[:, 1:].tolist())
    )
    assert outputs == theirs
    np.testing.assert_allclose(scores.reshape(-1), wanted.sequences_scores.numpy(), atol=1e-4, rtol=0)

"""Graphs with a shortlist match Hugging Face `generate` over the same tokens; the table matches IBM Model 1."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from compressor.decoding.shortlist import LexicalTable
from compressor.errors import ExportError
from compressor.exporters.graphs.search_loop import build_graphs
from compressor.exporters.graphs.weights import write_graphs
from compressor.exporters.quantization.calibration import calibrate
from compressor.exporters.quantization.rewrite import quantize
from compressor.exporters.shortlist import learn_table
from compressor.generation_config import until_eos
from compressor.runtime import streaming
from compressor.teachers.conversion.marian import to_marian
from tests.exporters.graphs.test_beams import GENERATION, ending_model, feeds, generated
from tests.models.test_transformer import EOS, PAD, VOCAB, sources

ALWAYS, LIKELY = 16, 3
ALL_TOKENS = LexicalTable(np.arange(VOCAB), np.zeros((VOCAB, 0), np.int64), 0)


@pytest.fixture(scope="module")
def net() -> Any:
    return ending_model()


@pytest.fixture(scope="module")
def table() -> LexicalTable:
    rng = np.random.default_rng(7)
    pairs = [(rng.integers(1, VOCAB - 1, 9), rng.integers(0, VOCAB - 1, 9)) for _ in range(300)]
    return learn_table(pairs, VOCAB, EOS, frequent=ALWAYS, likely=LIKELY)


@pytest.fixture(scope="module")
def graphs(net: Any, table: LexicalTable, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("shortlist")
    sessions = {}
    for name, graph in build_graphs(net, GENERATION, table).items():
        ir.save(graph, folder / f"{name}.onnx")
        sessions[name] = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    return sessions


def penalties(table: LexicalTable, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """[batch, vocab]: minus infinity where the shortlist of a source lacks a token, computed token by token."""
    penalty = torch.full((len(ids), VOCAB), -torch.inf)
    for row, source in enumerate(ids):
        tokens = set(table.always.tolist())
        for token in source[mask[row].bool()].tolist():
            tokens |= set(table.likely[token].tolist())
        penalty[row, sorted(tokens - set(GENERATION.suppressed_ids))] = 0.0
    return penalty


def hugging_face(net: Any, table: LexicalTable, given: dict[str, Any], **options: Any) -> Any:
    """`generate` with the same weights, every token outside the shortlist at minus infinity."""
    ids, mask, prefix = (given[name] for name in ("ids", "mask", "prefix"))
    peer = to_marian(net, GENERATION)
    rows = penalties(table, ids, mask).repeat_interleave(options.get("num_beams", 3), dim=0)[:, None]
    peer.lm_head.register_forward_hook(lambda module, inputs, logits: logits + rows)
    return generated(peer, ids, mask, prefix, **options)


CASES: list[dict[str, Any]] = [
    {},
    {"num_beams": 7},
    {"length_penalty": 0.0},
    {"early_stopping": True, "max_new_tokens": 25},
    {"min_new_tokens": 6},
    {"no_repeat_ngram_size": 1, "max_new_tokens": 8},
    {"no_repeat_ngram_size": 2, "max_new_tokens": 25},
    {"prefix": 3, "min_new_tokens": 2, "no_repeat_ngram_size": 2, "num_beams": 4},
]


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_beam_outputs_and_scores_match_hugging_face(
    net: Any, graphs: dict[str, Any], table: LexicalTable, case: dict[str, Any], batch: int
) -> None:
    options = dict(case)
    ids, mask = sources(batch)
    prefix = torch.randint(1, VOCAB - 1, (batch, options.pop("prefix", 0)), generator=torch.Generator().manual_seed(4))
    expected = hugging_face(net, table, {"ids": ids, "mask": mask, "prefix": prefix}, **options)
    outputs, scores = graphs["generate_beams"].run(["output_ids", "scores"], feeds(ids, mask, prefix, **options))
    wanted = [until_eos(row, EOS, PAD) for row in expected.sequences[:, 1:].tolist()]
    assert [until_eos(row, EOS, PAD) for row in outputs.reshape(len(wanted), -1).tolist()] == wanted
    np.testing.assert_allclose(scores.reshape(-1), expected.sequences_scores.numpy(), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("case", [{}, {"no_repeat_ngram_size": 2, "max_new_tokens": 25}, {"prefix": 3}], ids=str)
def test_greedy_outputs_match_hugging_face(
    net: Any, graphs: dict[str, Any], table: LexicalTable, case: dict[str, Any], batch: int
) -> None:
    options = {"num_beams": 1, "min_new_tokens": 6, **case}  # enough tokens for the shortlist to matter
    ids, mask = sources(batch)
    prefix = torch.randint(1, VOCAB - 1, (batch, options.pop("prefix", 0)), generator=torch.Generator().manual_seed(4))
    expected = hugging_face(net, table, {"ids": ids, "mask": mask, "prefix": prefix}, **options)
    whole = hugging_face(net, ALL_TOKENS, {"ids": ids, "mask": mask, "prefix": prefix}, **options)
    graph = graphs["generate"]
    names = {given.name for given in graph.get_inputs()}
    given = {name: value for name, value in feeds(ids, mask, prefix, **options).items() if name in names}
    (outputs,) = graph.run(["output_ids"], given)
    wanted = [until_eos(row, EOS, PAD) for row in expected.sequences[:, 1:].tolist()]
    assert [until_eos(row, EOS, PAD) for row in outputs.tolist()] == wanted
    assert batch == 1 or wanted != [until_eos(row, EOS, PAD) for row in whole.sequences[:, 1:].tolist()]


@pytest.mark.slow
def test_output_does_not_depend_on_the_batch(graphs: dict[str, Any]) -> None:
    ids, mask = sources(24)
    none = torch.zeros(24, 0, dtype=torch.int64)
    wanted = ["output_ids", "scores"]
    together, scores = graphs["generate_beams"].run(wanted, feeds(ids, mask, none))
    for row in range(24):
        width = int(mask[row].sum())
        given = feeds(ids[row : row + 1, :width], mask[row : row + 1, :width], none[:1])
        alone, score = graphs["generate_beams"].run(wanted, given)
        pairs = zip(together[row].tolist(), alone[0].tolist(), strict=True)
        assert all(until_eos(one, EOS, PAD) == until_eos(other, EOS, PAD) for one, other in pairs)
        np.testing.assert_allclose(scores[row], score[0], atol=1e-5)


@pytest.mark.slow
def test_int8_logits_of_kept_columns_equal_those_without_a_shortlist(
    net: Any, table: LexicalTable, tmp_path: Path
) -> None:
    whole, some = build_graphs(net, GENERATION), build_graphs(net, GENERATION, table)
    ids, mask = sources(9)
    ranges = calibrate(whole, [row[real.bool()].tolist() for row, real in zip(ids, mask, strict=True)], 12)
    steps = []
    for number, graphs in enumerate((whole, some)):
        for graph in graphs.values():
            quantize(graph, VOCAB, ranges)
        paths = write_graphs(graphs, tmp_path / str(number))
        encoder, step = (onnxruntime.InferenceSession(paths[name]) for name in ("encoder", "decoder_step"))
        options = feeds(ids, mask, ids[:, :0])
        state = streaming.first_feeds(encoder, step, options["input_ids"], options["attention_mask"], options)
        steps.append((state, streaming.advance(step, state, ["logits"])[0]))
    (_, everything), (state, logits) = steps
    assert 0 < len(state["kept_columns"]) < VOCAB
    wanted = everything[:, state["kept_columns"]] + penalties(table, ids, mask).numpy()[:, state["kept_columns"]]
    np.testing.assert_array_equal(logits, wanted)


def test_table_matches_plain_python_ibm_model_1() -> None:
    rng = np.random.default_rng(3)
    vocab, most = 40, 5
    pairs = [(rng.integers(1, vocab, 6).tolist(), rng.integers(1, vocab, 5).tolist()) for _ in range(200)]
    table = learn_table(pairs, vocab, 0, frequent=4, likely=most)
    written = Counter(token for _, target in pairs for token in target)
    assert table.always[0] == 0  # the end of sentence
    assert sorted(written[token] for token in table.always[1:]) == sorted(written.values())[-3:]
    probability: dict[tuple[int, int], float] = {}
    for _ in range(2):
        expected: dict[tuple[int, int], float] = defaultdict(float)
        for source, target in pairs:
            for token in set(target):
                total = sum(probability.get((one, token), 1.0) for one in set(source))
                for one in set(source):
                    expected[one, token] += probability.get((one, token), 1.0) / total
        totals = Counter[int]()
        for (one, _), count in expected.items():
            totals[one] += count  # type: ignore[assignment]
        probability = {key: count / totals[key[0]] for key, count in expected.items()}
    for one in range(1, vocab):
        counts = {token: count for (source, token), count in expected.items() if source == one}
        counts = {token: count for token, count in counts.items() if token != one and token not in table.always}
        best = sorted(counts.values(), reverse=True)[: most - 1]
        assert table.likely[one, 0] == one
        np.testing.assert_allclose([counts[token] for token in table.likely[one, 1 : len(best) + 1]], best)


def test_learning_without_pairs_is_refused() -> None:
    with pytest.raises(ExportError, match="a shortlist is learned from sources and what the teacher writes for them"):
        learn_table([], 40, 0)

"""mixed uses the fastest format for each matmul shape, and records the measured times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import onnx_ir as ir
import pytest

from compressor.exporters.quantization.kernel_choice import (
    BLOCKS,
    FORMATS,
    FP32,
    STATIC,
    MatmulShape,
    choose_formats,
    time_formats,
)
from compressor.exporters.quantization.rewrite import (
    Ranges,
    fp32_matmuls,
    quantize,
    weight_matmuls,
)
from tests.exporters.conftest import VOCAB


def timer(shape: MatmulShape) -> Mapping[str, float]:
    """Times on a machine where blocks win at one row, fp32 for few columns, and static scales otherwise."""
    return {FP32: 9.0 if shape.columns > 16 else 1.0, STATIC: 5.0, BLOCKS: 2.0 * shape.rows}


def expected(name: str, rows: int, columns: int) -> str:
    return FP32 if columns <= 16 and rows * 2 > 1 else BLOCKS if rows * 2 < 5 else STATIC


def test_static_format_wins_a_tie(graphs: dict[str, ir.Model]) -> None:
    for blocks, expected_format in ((9.8, STATIC), (9.0, BLOCKS)):
        choice = choose_formats(graphs, 1, 6, lambda shape, blocks=blocks: {FP32: 20.0, STATIC: 10.0, BLOCKS: blocks})
        assert set(choice.formats.values()) == {expected_format}


@pytest.mark.parametrize("batch_size", [1, 8])
def test_each_shape_gets_its_fastest_format(graphs: dict[str, ir.Model], batch_size: int) -> None:
    choice = choose_formats(graphs, batch_size, 6, timer)
    sizes: Counter[tuple[str, int, int]] = Counter()
    seen: set[bytes] = set()
    for name, rows in (("encoder", 6 * batch_size), ("decoder_step", batch_size)):
        for matmul in weight_matmuls(graphs[name]):
            d, columns = matmul.array.shape
            assert choice.formats[matmul.key] == expected(name, rows, columns)
            sizes[name, d, columns] += matmul.key not in seen
            seen.add(matmul.key)
    assert {(p.graph, p.d, p.columns): p.count for p in choice.matmul_formats} == dict(sizes)
    for entry in choice.matmul_formats:
        assert entry.rows == batch_size * (6 if entry.graph == "encoder" else 1)
        assert entry.microseconds == timer(MatmulShape(entry.rows, entry.d, entry.columns))
        assert entry.format == min(FORMATS, key=entry.microseconds.__getitem__)


def test_every_matmul_of_a_search_graph_gets_its_chosen_format(graphs: dict[str, ir.Model], ranges: Ranges) -> None:
    choice = choose_formats(graphs, 1, 6, timer)
    fp32_weights, blocks = choice.keys(FP32), choice.keys(BLOCKS)
    for name in ("generate", "generate_beams"):
        graph = graphs[name].clone()
        wanted = Counter(choice.formats[matmul.key] for matmul in weight_matmuls(graph))
        quantize(graph, VOCAB, ranges, fp32_weights, dict.fromkeys(blocks, 8))
        kinds = Counter(node.op_type for node in ir.traversal.RecursiveGraphIterator(graph.graph))
        assert kinds["MatMulNBits"] == wanted[BLOCKS] > 0 and kinds["MatMulIntegerToFloat"] == wanted[STATIC] > 0
        assert len(fp32_matmuls(graph)) == wanted[FP32] > 0 and not fp32_matmuls(graph, fp32_weights)


def test_every_format_is_timed() -> None:
    times = time_formats(MatmulShape(2, 32, 16))
    assert list(times) == list(FORMATS) and all(0 < value < 1e6 for value in times.values())

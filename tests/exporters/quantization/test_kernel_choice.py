"""mixed takes the fastest form of each size of product, and says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import onnx_ir as ir
import pytest

from compressor.exporters.quantization import kernel_choice as mixing
from compressor.exporters.quantization.kernel_choice import (
    BLOCKS,
    FORMS,
    FP32,
    STATIC,
    Shape,
)
from compressor.exporters.quantization.rewrite import (
    Ranges,
    float_products,
    products,
    quantize,
)
from tests.exporters.conftest import VOCAB


def clock(shape: Shape) -> Mapping[str, float]:
    """A machine on which blocks win at one row, fp32 for few outputs, and static scales for the rest."""
    return {FP32: 9.0 if shape.columns > 16 else 1.0, STATIC: 5.0, BLOCKS: 2.0 * shape.rows}


def expected(name: str, rows: int, columns: int) -> str:
    return FP32 if columns <= 16 and rows * 2 > 1 else BLOCKS if rows * 2 < 5 else STATIC


def test_a_form_that_is_faster_by_chance_is_not_taken(graphs: dict[str, ir.Model]) -> None:
    for close, form in ((9.8, STATIC), (9.0, BLOCKS)):
        mix = mixing.choose(graphs, 1, 6, lambda shape, close=close: {FP32: 20.0, STATIC: 10.0, BLOCKS: close})
        assert set(mix.forms.values()) == {form}


@pytest.mark.parametrize("batch_size", [1, 8])
def test_each_size_gets_its_fastest_form(graphs: dict[str, ir.Model], batch_size: int) -> None:
    mix = mixing.choose(graphs, batch_size, 6, clock)
    sizes: Counter[tuple[str, int, int]] = Counter()
    seen: set[bytes] = set()
    for name, rows in (("encoder", 6 * batch_size), ("decoder_step", batch_size)):
        for product in products(graphs[name]):
            d, columns = product.array.shape
            assert mix.forms[product.key] == expected(name, rows, columns)
            sizes[name, d, columns] += product.key not in seen
            seen.add(product.key)
    assert {(p.graph, p.d, p.columns): p.count for p in mix.products} == dict(sizes)
    for product_form in mix.products:
        assert product_form.rows == batch_size * (6 if product_form.graph == "encoder" else 1)
        assert product_form.microseconds == clock(Shape(product_form.rows, product_form.d, product_form.columns))
        assert product_form.form == min(FORMS, key=product_form.microseconds.__getitem__)


def test_every_product_of_a_search_has_a_form(graphs: dict[str, ir.Model], ranges: Ranges) -> None:
    forms = mixing.choose(graphs, 1, 6, clock).forms
    kept, blocks = ({key for key, form in forms.items() if form == which} for which in (FP32, BLOCKS))
    for name in ("generate", "generate_beams"):
        graph = graphs[name].clone()
        wanted = Counter(forms[product.key] for product in products(graph))
        quantize(graph, VOCAB, ranges, kept, dict.fromkeys(blocks, 8))
        kinds = Counter(node.op_type for node in ir.traversal.RecursiveGraphIterator(graph.graph))
        assert kinds["MatMulNBits"] == wanted[BLOCKS] > 0 and kinds["MatMulIntegerToFloat"] == wanted[STATIC] > 0
        assert len(float_products(graph)) == wanted[FP32] > 0 and not float_products(graph, kept)


def test_every_form_is_timed() -> None:
    found = mixing.time_forms(Shape(2, 32, 16))
    assert list(found) == list(FORMS) and all(0 < value < 1e6 for value in found.values())

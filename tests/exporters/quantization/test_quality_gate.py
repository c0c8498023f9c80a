"""The quality gate keeps lossy precisions within their budget, or refuses to publish them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import onnx_ir as ir
import pytest
import torch

import compressor
from compressor import export as export_bundle
from compressor.bundle import open_bundle
from compressor.decoding.search import greedy, pad_sources
from compressor.errors import ExportError
from compressor.exporters.quantization import quality_gate as gate
from compressor.exporters.quantization.rewrite import fp32_matmuls
from compressor.models.weights import load_run, save_run

COSTS = {"encoder.0": 0.1, "encoder.1": 5.0, "decoder.0": 2.0, "output": 0.2}


def dev_score(fp32_layers: Collection[str]) -> float:
    """Dev score of a model whose layers each lose their cost unless they are in fp32."""
    return 40.0 - sum(cost for name, cost in COSTS.items() if name not in fp32_layers)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [(34.0, ["encoder.1"]), (39.5, ["encoder.1", "decoder.0"]), (39.7, ["encoder.1", "decoder.0"])],
)
def test_layers_that_lose_most_stay_in_fp32(wanted: float, expected: list[str]) -> None:
    assert gate.choose_fp32_layers("int8", list(COSTS), dev_score, wanted) == expected


def test_last_layers_scored_are_the_layers_chosen() -> None:
    tried: list[list[str]] = []

    def score(names: Collection[str]) -> float:
        tried.append(list(names))
        return dev_score(names)

    chosen = gate.choose_fp32_layers("int8", list(COSTS), score, 39.0)
    assert chosen == tried[-1] and len(tried) > len(COSTS)


def test_gate_fails_when_half_of_the_layers_in_fp32_are_not_enough() -> None:
    with pytest.raises(ExportError, match=r"39\.70 on dev where 39\.90 is wanted, even with encoder\.1, decoder\.0"):
        gate.choose_fp32_layers("int8", list(COSTS), dev_score, 39.9)


@pytest.fixture(scope="module")
def uneven_run(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with half of the hidden units of one layer scaled by 1,000, and their outgoing weights by 1/1,000.

    Under ReLU that is the same function, but in int8 the other half of the units round to zero.
    """
    folder = tmp_path_factory.mktemp("uneven") / "run"
    # Trained until its choices are clear, so that int8 in the even layers changes few of them on any processor.
    overrides = ["training.updates=600"]
    run = load_run(compressor.train(tiny_recipe, folder.parent / "even", overrides=overrides, progress=False))
    layer = run.model.encoder[0].feed_forward  # type: ignore[index,union-attr]
    with torch.no_grad():
        layer.expand.weight[::2] *= 1e3
        layer.expand.bias[::2] *= 1e3
        layer.contract.weight[:, ::2] *= 1e-3
    save_run(folder, run)
    return folder


@pytest.mark.slow
def test_layer_with_outliers_stays_in_fp32(uneven_run: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    """The references are PyTorch's outputs, so that every change by int8 is a loss."""
    source, reference = tiny_corpus / "dev.de", tmp_path / "dev.en"
    run = load_run(uneven_run)
    ids = [run.tokenizer.encode_source(text) for text in source.read_text("utf-8").splitlines()]
    outputs = greedy(run.model, run.generation, *pad_sources(ids, run.generation.pad_id))
    texts = [run.tokenizer.decode(output) for output in outputs]
    reference.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    bundle = export_bundle(
        uneven_run, tmp_path / "bundle", dev_source=source, dev_reference=reference, quality_budget=3.0
    )
    manifest = open_bundle(bundle)
    fp32, int8 = (manifest.precisions[name] for name in ("fp32", "int8"))
    assert fp32.fp32_layers == () and int8.fp32_layers == ("encoder.0",)
    assert fp32.quality and int8.quality and fp32.quality.against_references == pytest.approx(100.0)
    assert int8.quality.against_references is not None and int8.quality.against_references >= 97.0
    assert "in fp32: encoder.0" in (bundle / "README.md").read_text(encoding="utf-8")
    layer = gate.layer_weights(load_run(uneven_run).model, {})["encoder.0"]
    graph = ir.load(bundle / "int8" / "generate.onnx")
    assert len(fp32_matmuls(graph)) == len(layer) and not fp32_matmuls(graph, layer)


def test_lossy_precision_without_references_is_refused(tiny_run: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="give dev_reference, or publish them as they are with ungated=True"):
        export_bundle(tiny_run, tmp_path / "out", dev_source=tiny_corpus / "dev.de")
    assert list(tmp_path.iterdir()) == []

"""A trained run, or a checkpoint, becomes an ONNX bundle, proved against PyTorch before it is published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import onnx_ir as ir
from rich.console import Console

from compressor.bundle import (
    CARD_FILE,
    MANIFEST_FILE,
    PARITY_FILE,
    TOKENIZER_FOLDER,
    Manifest,
    dump_manifest,
    file_records,
)
from compressor.config import Task
from compressor.errors import ConfigError, ExportError
from compressor.exporters import gate, parity, quantize
from compressor.exporters.calibration import calibrate
from compressor.exporters.card import model_card
from compressor.exporters.dev import DevSet, dev_set, spread
from compressor.exporters.exportable import load_exportable
from compressor.exporters.manifest import PRECISIONS, draft
from compressor.exporters.onnx import build_graphs
from compressor.exporters.weights import write_graphs
from compressor.files import new_folder
from compressor.models.storage import Run
from compressor.progress import Bar
from compressor.quality import score
from compressor.runtime.generator import Generator
from compressor.runtime.session import check_onnxruntime

CALIBRATION_SOURCES = 128


def export_bundle(
    run_dir: Path,
    out_dir: Path,
    *,
    precisions: Sequence[str] = ("fp32", "int8"),
    task: Task | None = None,
    dev_source: Path | None = None,
    dev_reference: Path | None = None,
    quality_budget: float = gate.BUDGET,
    ungated: bool = False,
    force: bool = False,
    progress: bool = True,
) -> Path:
    """Exports a run, whole or not at all.

    fp32 is always built, for it is what every other precision is compared with, and published if it was asked for.

    Args:
        run_dir: A run folder, or a Hugging Face checkpoint in Marian's or BART's layout (folder or hub name).
        out_dir: The bundle's folder.
        precisions: ``fp32`` and ``int8``.
        task: Of a checkpoint; by default translation.
        dev_source: Sources to prove the export on, one a line; by default the run's own dev set.
        dev_reference: Their references.
        quality_budget: The most BLEU or ROUGE-L that int8 may lose on dev data. Where it loses more, the layers to
            blame stay in fp32.
        ungated: Publish int8 whatever it loses, and without references, too.
        force: Replace ``out_dir`` if it exists.
        progress: Show a bar on standard error.

    Returns:
        ``out_dir``.

    Raises:
        ConfigError: a precision is unknown.
        ExportError: int8 loses more than the budget, or there are no references to tell.
        ModelError: the run is damaged.
        DataError: dev files are missing or do not match.
        ExportError: the model cannot be exported, or the export differs from it.
        OutputExistsError: ``out_dir`` exists and ``force`` is not set.
        StorageError: the disk is full.
    """
    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown or not precisions:
        raise ConfigError(f"precisions: give some of {', '.join(PRECISIONS)}, not {', '.join(unknown) or 'nothing'}")
    check_onnxruntime()
    with new_folder(out_dir, force=force) as folder, Bar(Console(stderr=True), progress) as bar:
        bar.start("tracing", None)
        run = load_exportable(run_dir, task)
        dev = dev_set(run, dev_source, dev_reference)
        gated = "int8" in precisions and not ungated
        if gated and dev.references is None:
            raise ExportError("int8 has unknown losses without references: give --dev-reference FILE, or say --ungated")
        graphs = build_graphs(run.model, run.generation)
        int8 = _Int8(run, graphs, dev, folder) if "int8" in precisions else None
        write_graphs(graphs, folder / "fp32")
        if int8:
            int8.write()
        run.tokenizer.save(folder / TOKENIZER_FOLDER)
        manifest = draft(run, folder)
        report = _prove(run, folder, manifest, dev, bar)
        if int8 and gated and gate.lost(report.quality) > quality_budget:
            bar.start("int8: looking for layers to keep in fp32", None)
            int8.keep_culprits(manifest, gate.score_of(report.quality["fp32"]) - quality_budget)
            report = _prove(run, folder, manifest, dev, bar)
        _finish(folder, manifest, report, precisions)
    return out_dir


def _prove(run: Run, folder: Path, manifest: Manifest, dev: DevSet, bar: Bar) -> parity.Report:
    generators = {name: Generator(folder, manifest, precision=name, intra_threads=1) for name in manifest.precisions}
    return parity.check(run.model, run.generation, generators, dev, bar)


class _Int8:
    """The int8 form of graphs: written once, and again with some layers in fp32 where it loses too much."""

    def __init__(self, run: Run, graphs: dict[str, ir.Model], dev: DevSet, folder: Path) -> None:
        self.run, self.graphs, self.dev, self.folder = run, graphs, dev, folder
        limit = min(run.generation.max_new_tokens, run.model.config.max_length)
        self.ranges = calibrate(graphs, [dev.ids[index] for index in spread(len(dev.ids), CALIBRATION_SOURCES)], limit)
        self.layers = gate.layers(run.model, graphs)

    def write(self, float_layers: Collection[str] = ()) -> None:
        """Replaces the form on disk by one in which these layers are in fp32."""
        kept = {key for name in float_layers for key in self.layers[name]}
        shutil.rmtree(self.folder / "int8", ignore_errors=True)  # open sessions keep the old file
        graphs = {name: model.clone() for name, model in self.graphs.items()}
        for model in graphs.values():
            quantize.quantize(model, self.run.model.config.vocab_size, self.ranges, kept)
        for path in write_graphs(graphs, self.folder / "int8").values():
            quantize.check_quantized(path, kept)

    def keep_culprits(self, manifest: Manifest, wanted: float) -> None:
        """Leaves the layers to blame in fp32, so that the dev score is as wanted. Raises ExportError if none help."""
        kept = gate.culprits(list(self.layers), lambda names: self.score(manifest, names), wanted)
        manifest.precisions["int8"] = manifest.precisions["int8"].model_copy(update={"float_layers": tuple(kept)})

    def score(self, manifest: Manifest, float_layers: Collection[str]) -> float:
        """The dev score with these layers in fp32."""
        assert self.dev.references is not None
        self.write(float_layers)
        generator = Generator(self.folder, manifest, precision="int8", intra_threads=1)
        texts = [generator.tokenizer.decode(ids) for ids in generator.generate_ids(self.dev.ids, batch_size=1)]
        return score(manifest.task, texts, self.dev.references).headline


def _finish(folder: Path, manifest: Manifest, report: parity.Report, precisions: Sequence[str]) -> None:
    """Takes out what was not asked for, then writes report, card and, last of all, the manifest."""
    for name in set(manifest.precisions) - set(precisions):
        for path in (folder / name).iterdir():
            path.unlink()
        (folder / name).rmdir()
    kept = {
        name: precision.model_copy(update={"quality": report.quality[name]})
        for name, precision in manifest.precisions.items()
        if name in precisions
    }
    files = file_records(folder)
    manifest = manifest.model_copy(update={"precisions": kept, "parity": report.summary(), "files": files})
    (folder / PARITY_FILE).write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
    (folder / CARD_FILE).write_text(model_card(manifest), encoding="utf-8")
    manifest = manifest.model_copy(update={"files": file_records(folder)})  # report and card among them
    (folder / MANIFEST_FILE).write_text(dump_manifest(manifest), encoding="utf-8")

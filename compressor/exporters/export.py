"""Exports a trained run or a checkpoint as an ONNX bundle, checked against PyTorch before it is published."""

from __future__ import annotations

import functools
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
    SHORTLIST,
    TOKENIZER_FOLDER,
    Manifest,
    base_precision,
    dump_manifest,
    file_records,
)
from compressor.decoding.shortlist import LexicalTable
from compressor.errors import ExportError
from compressor.exporters.checkpoints import load_exportable
from compressor.exporters.checks import parity
from compressor.exporters.checks.dev_set import DevSet, load_dev_set
from compressor.exporters.checks.letter_case import choose_recased
from compressor.exporters.config import ExportConfig
from compressor.exporters.graphs.search_loop import build_graphs, build_half_graphs
from compressor.exporters.graphs.weights import write_graphs
from compressor.exporters.hub_folder import export_hub_folder
from compressor.exporters.manifest import draft as draft_manifest
from compressor.exporters.model_card import model_card
from compressor.exporters.quantization import quality_gate as gate
from compressor.exporters.quantization.precision import (
    CALIBRATION_SOURCES,
    QUANTIZED,
    QuantizationInputs,
    QuantizedPrecision,
    plan_precision,
)
from compressor.exporters.quantization.rewrite import fp32_matmuls
from compressor.exporters.shortlist import learn_table, teacher_pairs
from compressor.models.weights import Run
from compressor.output_folder import new_folder
from compressor.progress import Bar
from compressor.runtime.generator import Generator
from compressor.runtime.session import Device, check_onnxruntime, probe_device
from compressor.text.metrics import score


def export_model(
    run_dir: Path, out_dir: Path, config: ExportConfig, *, force: bool = False, progress: bool = True
) -> Path:
    """Exports a run in the format that the options name; see ``export_bundle`` and ``export_hub_folder``."""
    if config.format == "transformers":
        return export_hub_folder(run_dir, out_dir, config, force=force)
    return export_bundle(run_dir, out_dir, config, force=force, progress=progress)


def export_bundle(
    run_dir: Path, out_dir: Path, config: ExportConfig, *, force: bool = False, progress: bool = True
) -> Path:
    """Exports a run as a bundle, whole or not at all.

    fp32 is always built, since every other precision is compared with it, and published if it was asked for.

    Args:
        run_dir: A run folder, or a Hugging Face checkpoint in Marian's or BART's layout (folder or hub name).
        out_dir: The bundle's folder.
        config: Options. With ``ungated`` and no dev sources, fp32 and fp16 are checked on random tokens, and no
            quality is recorded.
        force: Replace ``out_dir`` if it exists.
        progress: Show a bar on standard error.

    Returns:
        ``out_dir``.

    Raises:
        ConfigError: options do not fit the model or each other.
        DependencyError: the device is not available.
        ModelError: the run is damaged.
        DataError: dev files are missing or do not match.
        ExportError: the model cannot be exported, the export differs from it, a precision loses more than the budget,
            or there are no references to measure that.
        OutputExistsError: ``out_dir`` exists and ``force`` is not set.
        StorageError: the disk is full.
    """
    check_onnxruntime()
    probe_device(config.device)
    with new_folder(out_dir, force=force) as folder, Bar(Console(stderr=True), progress) as bar:
        bar.start("tracing", None)
        run = load_exportable(run_dir, config.task)
        dev, table = _load_dev_set(run, config), _learn_shortlist(run_dir, run, config)
        quantized = _write_precisions(run, table, dev, folder, config)
        run.tokenizer.compact().save(folder / TOKENIZER_FOLDER)
        draft = _Draft(run, folder, draft_manifest(run, folder, table), dev, config.device, quantized)
        report = draft.check(bar)
        if not config.ungated:
            report = _apply_gate(draft, report, _lossy(config), config.quality_budget, bar)
        bar.start("letter case", None)
        recased = choose_recased(draft.generator(draft.manifest.default_for(config.device)), dev)
        manifest = draft.complete_manifest().model_copy(update={"recased": recased})
        _finish(folder, manifest, report, config.built_precisions)
    return out_dir


def _lossy(config: ExportConfig) -> list[str]:
    """Returns the precisions that are compared with fp32."""
    return [name for name in config.built_precisions if name != "fp32"]


def _load_dev_set(run: Run, config: ExportConfig) -> DevSet:
    """Returns the dev set. Raises ExportError if a precision has to be scored and there are no references."""
    is_unscored = config.ungated and set(QUANTIZED).isdisjoint(config.built_precisions)
    dev = load_dev_set(run, config.dev_source, config.dev_reference, allow_random=is_unscored)
    lossy = _lossy(config)
    if lossy and not config.ungated and dev.references is None:
        raise ExportError(
            f"{', '.join(lossy)}: losses are unknown without references: "
            "give {dev_reference}, or publish them as they are with {ungated}",
            options={"dev_reference": None, "ungated": True},
        )
    return dev


def _learn_shortlist(run_dir: Path, run: Run, config: ExportConfig) -> LexicalTable | None:
    """Returns the table of the precisions with a shortlist; None if there is no such precision."""
    if not any(name.endswith(SHORTLIST) for name in config.built_precisions):
        return None
    pairs = teacher_pairs(run_dir, run.tokenizer, config.shortlist_source, config.shortlist_target)
    return learn_table(pairs, run.model.config.vocab_size, run.generation.eos_id)


def _write_precisions(
    run: Run, table: LexicalTable | None, dev: DevSet, folder: Path, config: ExportConfig
) -> dict[str, QuantizedPrecision]:
    """Writes the graphs of every precision; returns the quantized ones by name, which may be written again."""
    precisions, quantized = config.built_precisions, {}
    graphs, shortlisted = _build_graphs(run, table)
    if not set(QUANTIZED).isdisjoint(precisions):
        inputs = QuantizationInputs(run, graphs, shortlisted, dev.sample(CALIBRATION_SOURCES), folder)
        quantized = _quantize(inputs, precisions, config.batch_size)
    write_graphs(graphs | (shortlisted if f"fp32{SHORTLIST}" in precisions else {}), folder / "fp32")
    for precision in quantized.values():
        precision.write()
    if "fp16" in precisions:
        _write_fp16(run, folder / "fp16")
    return quantized


def _build_graphs(run: Run, table: LexicalTable | None) -> tuple[dict[str, ir.Model], dict[str, ir.Model]]:
    """Returns the fp32 graphs by file name, without a shortlist and with one (none where there is no table)."""
    plain = build_graphs(run.model, run.generation)
    if table is None:
        return plain, {}
    shortlisted = build_graphs(run.model, run.generation, table)
    return plain, {f"{name}{SHORTLIST}": graph for name, graph in shortlisted.items()}


def _quantize(inputs: QuantizationInputs, precisions: Sequence[str], batch_size: int) -> dict[str, QuantizedPrecision]:
    """Returns the quantized precisions among ``precisions`` by name; nothing is written yet."""
    return {
        name: QuantizedPrecision(
            name, inputs, plan_precision(name, inputs, batch_size), f"{name}{SHORTLIST}" in precisions
        )
        for name in precisions
        if name in QUANTIZED
    }


def _write_fp16(run: Run, folder: Path) -> None:
    """Writes the fp16 graphs. Raises ExportError if a matmul is still in fp32."""
    graphs = build_half_graphs(run.model, run.generation)
    in_fp32 = {name: matmuls for name, graph in graphs.items() if (matmuls := fp32_matmuls(graph))}
    if in_fp32:
        raise ExportError(f"fp16: these matmuls were left in fp32: {in_fp32}")
    write_graphs(graphs, folder)


class _Draft:
    """A bundle before it is published: its precisions on disk, and what they are checked against."""

    def __init__(
        self,
        run: Run,
        folder: Path,
        manifest: Manifest,
        dev: DevSet,
        device: Device,
        quantized: dict[str, QuantizedPrecision],
    ) -> None:
        self.run, self.folder, self.manifest, self.dev, self.device = run, folder, manifest, dev, device
        self.quantized = quantized

    def generator(self, name: str) -> Generator:
        """Opens a precision."""
        return Generator(self.folder, self.manifest, precision=name, intra_threads=1, device=self.device)

    def check(self, bar: Bar) -> parity.ParityReport:
        """Compares every precision with PyTorch and with fp32. Raises ExportError where fp32 differs."""
        generators = {name: self.generator(name) for name in self.manifest.precisions}
        return parity.check_parity(self.run.model, self.run.generation, generators, self.dev, bar)

    def score(self, name: str, fp32_layers: Collection[str]) -> float:
        """Writes a quantized precision with these layers in fp32, and returns its score on the dev set."""
        assert self.dev.references is not None
        self.quantized[name].write(fp32_layers)
        generator = self.generator(name)
        texts = [generator.tokenizer.decode(ids) for ids in generator.generate_ids(self.dev.ids, batch_size=1)]
        return score(self.manifest.task, texts, self.dev.references).headline

    def complete_manifest(self) -> Manifest:
        """Returns the manifest with the fp32 layers, matmul formats and batch size of quantized precisions."""
        precisions = dict(self.manifest.precisions)
        for name, precision in precisions.items():
            if quantized := self.quantized.get(base_precision(name)):
                batch_size, matmul_formats = quantized.plan.batch_size, quantized.plan.matmul_formats
                fields = {
                    "fp32_layers": quantized.fp32_layers,
                    "batch_size": batch_size,
                    "matmul_formats": matmul_formats,
                }
                precisions[name] = precision.model_copy(update=fields)
        return self.manifest.model_copy(update={"precisions": precisions})


def _apply_gate(
    draft: _Draft, report: parity.ParityReport, lossy: Sequence[str], budget: float, bar: Bar
) -> parity.ParityReport:
    """Puts layers of quantized precisions that lose more than the budget back to fp32, and checks everything again.

    Raises:
        ExportError: a precision still loses more than ``budget`` (BLEU or ROUGE-L).
    """
    fp32 = report.quality["fp32"]
    over = [name for name in lossy if name in draft.quantized and gate.score_loss(report.quality, name) > budget]
    for name in over:
        bar.start(f"{name}: looking for layers to keep in fp32", None)
        layers = list(draft.quantized[name].inputs.layers)
        target = gate.reference_score(fp32) - budget
        scored = functools.partial(draft.score, name)
        gate.choose_fp32_layers(name, layers, scored, target, gate.metric_name(fp32))
    report = draft.check(bar) if over else report
    for name in lossy:
        if name not in draft.quantized and (lost := gate.score_loss(report.quality, name)) > budget:
            loss = f"loses {lost:.2f} {gate.metric_name(fp32)} on dev"
            message = f"{name} {loss} where {budget:g} is allowed: {gate.REMEDIES}"
            raise ExportError(message, options=gate.REMEDY_OPTIONS)
    return report


def _finish(folder: Path, manifest: Manifest, report: parity.ParityReport, precisions: Sequence[str]) -> None:
    """Deletes precisions that were not asked for, then writes report, card and manifest, the manifest last."""
    for name in {base_precision(name) for name in manifest.precisions} - set(precisions):
        shutil.rmtree(folder / name)
    published = {
        name: precision.model_copy(update={"quality": report.quality.get(name)})
        for name, precision in manifest.precisions.items()
        if name in precisions
    }
    files = file_records(folder)
    manifest = manifest.model_copy(update={"precisions": published, "parity": report.summary(), "files": files})
    (folder / PARITY_FILE).write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
    (folder / CARD_FILE).write_text(model_card(manifest), encoding="utf-8")
    manifest = manifest.model_copy(update={"files": file_records(folder)})  # report and card among them
    (folder / MANIFEST_FILE).write_text(dump_manifest(manifest), encoding="utf-8")

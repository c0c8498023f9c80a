"""Exports a run as a Hugging Face folder in MarianMT's layout, which transformers and CTranslate2's converter read."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers.utils import logging as hf_logging

from compressor.errors import ExportError
from compressor.exporters.checkpoints import load_exportable
from compressor.exporters.config import ExportConfig
from compressor.exporters.hub_card import hub_card
from compressor.files import write_atomic
from compressor.models.weights import Run
from compressor.output_folder import new_folder
from compressor.run_folder import RUN_FILE, RunRecord
from compressor.teacher_config import TeacherConfig
from compressor.teachers.conversion.marian import check_layout, suppress_by_bias, to_marian, with_padding_last
from compressor.teachers.conversion.marian_tokenizer import marian_tokenizer_files
from compressor.teachers.hf_tokenizer import PROBES
from compressor.teachers.registry import load_teacher

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
TOLERANCE = {"fp32": 1e-3, "fp16": 0.2}
"""Largest difference of a logit between the run and the folder; fp16 rounds the weights."""


def export_hub_folder(run_dir: Path, out_dir: Path, config: ExportConfig, *, force: bool = False) -> Path:
    """Exports a run as a Hugging Face folder, whole or not at all: weights, tokenizer, generation rules, model card.

    Args:
        run_dir: A run folder, or a Hugging Face checkpoint in Marian's layout.
        out_dir: The folder to write.
        config: Options; ``format`` is ``transformers``, and the precision that of the stored weights.
        force: Replace ``out_dir`` if it exists.

    Returns:
        ``out_dir``.

    Raises:
        ModelError: the run is damaged, or model or tokenizer do not have Marian's layout.
        ExportError: the folder computes something else.
        OutputExistsError: ``out_dir`` exists and ``force`` is not set.
        StorageError: the disk is full.
    """
    (precision,) = config.built_precisions
    run = load_exportable(run_dir, config.task)
    with new_folder(out_dir, force=force) as folder:
        _write(run, folder, precision)
        _check(run, folder, TOLERANCE[precision])
    return out_dir


def _write(run: Run, folder: Path, precision: str) -> None:
    model, generation = with_padding_last(check_layout(run.model, run.generation), run.generation)
    marian = to_marian(model, generation)
    suppress_by_bias(marian, generation.suppressed_ids)
    hf_logging.disable_progress_bar()
    marian.to(DTYPES[precision]).save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    record = public_record(run)
    files = marian_tokenizer_files(
        run.tokenizer,
        model.config.vocab_size,
        min(generation.max_source_tokens, model.config.max_length),
        record.source_language,
        record.target_language,
    )
    for name, content in files.items():
        write_atomic(folder / name, content)
    write_atomic(folder / RUN_FILE, record.model_dump_json(indent=1, exclude_unset=True) + "\n")
    write_atomic(folder / "README.md", hub_card(run.model, generation, record, run.tokenizer.frame.text_prefix))


def public_record(run: Run) -> RunRecord:
    """Returns the record of a run without example sentences, because a corpus may be private."""
    record, recipe = run.record, run.recipe
    languages = {
        "source_language": record.source_language or (recipe.source_language if recipe else None),
        "target_language": record.target_language or (recipe.target_language if recipe else None),
        "task": record.task or (recipe.task if recipe else "translation"),
    }
    data = record.data
    if data is not None:
        report = data.report.model_copy(update={"examples": {}})
        data = data.model_copy(update={"report": report, "report_text": ""})
    return record.model_copy(update={**languages, "data": data})


@torch.no_grad()
def _check(run: Run, folder: Path, tolerance: float) -> None:
    """Opens the folder as a teacher and compares token ids and logits with the run's. Raises ExportError."""
    prefix = run.tokenizer.frame.text_prefix
    teacher = load_teacher(TeacherConfig(path=str(folder), source_prefix=prefix))
    start, longest = torch.tensor([[teacher.generation.start_id]]), run.model.config.max_length
    language = run.tokenizer.example.removesuffix("1")  # which a multilingual Marian model needs
    for text in (language + probe for probe in PROBES):
        ids = run.tokenizer.encode_source(text)
        if teacher.tokenizer.encode_source(text) != ids:
            raise ExportError(f"{folder}: Marian's tokenizer gives {text!r} other token ids than the run's")
        source = torch.tensor([ids[:longest]])
        mask = torch.ones_like(source, dtype=torch.bool)
        theirs = teacher.logits(source, mask, start, torch.ones_like(start, dtype=torch.bool))[0]
        ours = run.model.decode(run.model.encode(source, mask), torch.tensor([[run.generation.start_id]]))[0, -1]
        allowed = run.generation.allowed_ids(ours.shape[0])
        difference = float((theirs[allowed] - ours[allowed]).abs().max())
        if not difference <= tolerance:
            raise ExportError(f"{folder}: logits differ by {difference:.3g} from the run's, {tolerance:g} is allowed")

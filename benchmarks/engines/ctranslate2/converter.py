"""Converts a model to CTranslate2: ``python -m benchmarks.engines.ctranslate2.converter MODEL FOLDER PRECISION``.

The vocabulary is the token ids as strings, so that this engine takes and returns the ids that every other engine does.
Marian starts decoding from a zero embedding: the row of padding in Hugging Face, which CTranslate2's loader drops.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from ctranslate2.converters.transformers import MarianMTLoader
from torch import nn
from transformers import MarianMTModel

from benchmarks.engines.converted_model import MODEL
from benchmarks.engines.converted_writer import write_description
from benchmarks.engines.ctranslate2.engine import COMPUTE_TYPES
from compressor.exporters.checkpoints import load_exportable
from compressor.teachers.conversion.marian import to_marian


@torch.no_grad()
def convert(source: Path, folder: Path, precision: str) -> None:
    """Writes the converted folder.

    Raises:
        ModelError: the layout is not Marian's.
    """
    run = load_exportable(source)
    rules, vocab_size = run.generation, run.model.config.vocab_size
    marian = to_marian(run.model, rules)
    for token in rules.suppressed_ids:
        marian.final_logits_bias[0, token] = -1e9  # excluded from the softmax, too
    tokens = [index for index in range(vocab_size) if index != rules.pad_id]
    order = [*tokens, rules.pad_id]  # the loader drops the last
    marian.final_logits_bias = marian.final_logits_bias[:, order]
    tables = {table.weight for table in (marian.model.shared, marian.lm_head, *_embeddings(marian))}
    for weight in tables:
        weight.data = weight.data[order]
    spec = MarianMTLoader().get_model_spec(marian)
    vocabulary = [str(index) for index in tokens]
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.config.eos_token = spec.config.bos_token = spec.config.decoder_start_token = str(rules.eos_id)
    spec.config.unk_token = str(rules.eos_id)
    spec.validate()
    spec.optimize(quantization=COMPUTE_TYPES[precision])
    (folder / MODEL).mkdir(parents=True)
    spec.save(str(folder / MODEL))
    write_description(run, folder)


def _embeddings(marian: MarianMTModel) -> list[nn.Module]:
    return [side.embed_tokens for side in (marian.model.encoder, marian.model.decoder)]


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

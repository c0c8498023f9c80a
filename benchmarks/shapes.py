"""Models of random weights, so that a measurement of speed does not hang on one trained model.

``python -m benchmarks.shapes NAME FOLDER`` writes one as a run. Its tokenizer has a word for every id, so that engines
which take text and engines which take ids do the same work. The end of sentence is too unlikely to come by itself:
every output is as long as the call allows.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from compressor.exporters.export import export_bundle
from compressor.files import write_atomic
from compressor.generation_config import GenerationConfig
from compressor.model_config import ModelConfig
from compressor.models.transformer import build_model
from compressor.models.weights import Run, save_run
from compressor.run_folder import RunRecord, is_run
from compressor.text.tokenizer import JsonTokenizer, TextFrame

EOS, UNKNOWN = 0, 1
SPREAD = 1.5
"""How much wider than a fresh model's the weights are, so that outputs depend on their sources."""
NEVER = -1e4


class Shape(NamedTuple):
    """Sizes of a model in Marian's layout."""

    encoder_layers: int
    decoder_layers: int
    d_model: int
    ffn: int
    heads: int
    vocab_size: int


SHAPES = {"6+2-256": Shape(6, 2, 256, 1024, 8, 8_000), "6+6-512": Shape(6, 6, 512, 2048, 8, 32_000)}


def random_run(shape: Shape, seed: int = 1, max_length: int = 128) -> Run:
    """A model with random weights, the last token of whose vocabulary is padding, as in Marian."""
    torch.manual_seed(seed)
    pad = shape.vocab_size - 1
    model = build_model(
        ModelConfig(
            d_model=shape.d_model,
            num_heads=shape.heads,
            encoder_layers=shape.encoder_layers,
            decoder_layers=shape.decoder_layers,
            encoder_ffn=shape.ffn,
            decoder_ffn=shape.ffn,
            max_length=max_length,
            vocab_size=shape.vocab_size,
            pad_id=pad,
        )
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(SPREAD)
        model.output_bias[EOS] = NEVER
    generation = GenerationConfig(
        start_id=pad, eos_id=EOS, pad_id=pad, suppressed_ids=(pad,), forced_eos_id=EOS, max_new_tokens=max_length
    )
    return Run(model, generation, word_tokenizer(shape.vocab_size), record=RunRecord(task="translation"))


def word_tokenizer(vocab_size: int) -> JsonTokenizer:
    """``w17`` is token 17; the first is the end of sentence, the second unknown, the last padding."""
    vocab = {"</s>": EOS, "<unk>": UNKNOWN, "<pad>": vocab_size - 1}
    vocab |= {f"w{index}": index for index in range(2, vocab_size - 1)}
    words = FastTokenizer(WordLevel(vocab, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    frame = TextFrame(eos_id=EOS, pad_id=vocab_size - 1, source_suffix_ids=(EOS,))
    return JsonTokenizer({"tokenizer.json": words.to_str().encode()}, frame)


def random_texts(vocab_size: int, count: int, tokens: int, seed: int = 2) -> list[str]:
    """Sources of exactly so many tokens, end of sentence included."""
    chance = random.Random(seed)
    return [" ".join(f"w{chance.randrange(2, vocab_size - 1)}" for _ in range(tokens - 1)) for _ in range(count)]


def random_bundle(
    shape: Shape, folder: Path, *, dev_sources: int, tokens: int, precisions: Sequence[str] = ("fp32", "int8")
) -> tuple[Path, Path]:
    """The run of a shape and its bundle, made in ``folder`` unless they are there.

    Args:
        shape: Sizes of the model.
        folder: Holds ``run``, ``bundle`` and the sources that scales are found on and the export is proved on.
        dev_sources: How many these are.
        tokens: Of each of them.
        precisions: Of the bundle.
    """
    run, bundle, dev = folder / "run", folder / "bundle", folder / "dev.txt"
    if not is_run(run):
        save_run(run, random_run(shape))
        write_atomic(dev, "\n".join(random_texts(shape.vocab_size, dev_sources, tokens)) + "\n")
    if not bundle.is_dir():
        export_bundle(run, bundle, dev_source=dev, precisions=precisions, ungated=True, progress=False)
    return run, bundle


if __name__ == "__main__":
    save_run(Path(sys.argv[2]), random_run(SHAPES[sys.argv[1]]))

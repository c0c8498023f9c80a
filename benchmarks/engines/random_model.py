"""Models of random weights, so that a measurement of speed does not depend on one trained model.

The tokenizer has a word for every id, so that engines which take text and engines which take ids do the same work. The
bias of the end of sentence is so low that every output is as long as the call allows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from compressor import export as export_bundle
from compressor.files import write_atomic
from compressor.generation_config import GenerationConfig
from compressor.model_config import TransformerModelConfig
from compressor.models.registry import build_model
from compressor.models.weights import Run, save_run
from compressor.run_folder import RunRecord, is_run
from compressor.text.tokenizer import JsonTokenizer, TextFrame

EOS, UNKNOWN = 0, 1
WEIGHT_SCALE = 1.5
"""Factor on a fresh model's weights; at 1 the outputs hardly depend on their sources."""
EOS_BIAS = -1e4


class Shape(NamedTuple):
    """Sizes of a model with the default architecture, whose layout is Marian's."""

    encoder_layers: int
    decoder_layers: int
    d_model: int
    ffn: int
    heads: int
    vocab_size: int


SHAPES = {"6+2-256": Shape(6, 2, 256, 1024, 8, 8_000), "6+6-512": Shape(6, 6, 512, 2048, 8, 32_000)}


def random_run(shape: Shape, seed: int = 1, max_length: int = 128) -> Run:
    """A model with random weights; the last token of its vocabulary is padding, as in Marian."""
    torch.manual_seed(seed)
    pad = shape.vocab_size - 1
    model = build_model(
        TransformerModelConfig(
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
            parameter.mul_(WEIGHT_SCALE)
        model.output_bias[EOS] = EOS_BIAS
    generation = GenerationConfig(
        start_id=pad, eos_id=EOS, pad_id=pad, suppressed_ids=(pad,), forced_eos_id=EOS, max_new_tokens=max_length
    )
    return Run(model, generation, word_tokenizer(shape.vocab_size), record=RunRecord(task="translation"))


def word_tokenizer(vocab_size: int) -> JsonTokenizer:
    """A tokenizer of whole words: ``w17`` is token 17, token 0 the end of sentence, 1 unknown, the last padding."""
    vocab = {"</s>": EOS, "<unk>": UNKNOWN, "<pad>": vocab_size - 1}
    vocab |= {f"w{index}": index for index in range(2, vocab_size - 1)}
    words = FastTokenizer(WordLevel(vocab, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    frame = TextFrame(eos_id=EOS, pad_id=vocab_size - 1, source_suffix_ids=(EOS,))
    return JsonTokenizer({"tokenizer.json": words.to_str().encode()}, frame)


def random_texts(vocab_size: int, count: int, tokens: int, seed: int = 2) -> list[str]:
    """``count`` sources of exactly ``tokens`` tokens each, end of sentence included."""
    generator = random.Random(seed)
    return [" ".join(f"w{generator.randrange(2, vocab_size - 1)}" for _ in range(tokens - 1)) for _ in range(count)]


def random_bundle(
    shape: Shape, folder: Path, *, dev_sources: int, tokens: int, precisions: Sequence[str] = ("fp32", "int8")
) -> tuple[Path, Path]:
    """The run of a shape and its bundle, made in ``folder`` unless they are there.

    Args:
        shape: Sizes of the model.
        folder: Holds ``run``, ``bundle`` and ``dev.txt``, the sources for calibration and the export's checks.
        dev_sources: Count of these sources.
        tokens: Length of each of them, in tokens.
        precisions: Precisions of the bundle.
    """
    run, bundle, dev = folder / "run", folder / "bundle", folder / "dev.txt"
    if not is_run(run):
        save_run(run, random_run(shape))
        write_atomic(dev, "\n".join(random_texts(shape.vocab_size, dev_sources, tokens)) + "\n")
    if not bundle.is_dir():
        export_bundle(run, bundle, dev_source=dev, precisions=precisions, ungated=True, progress=False)
    return run, bundle

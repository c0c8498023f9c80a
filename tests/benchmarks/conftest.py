"""A bundle's manifest without its graphs, engines that only pretend, and a tiny MarianMT checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from benchmarks.engines.base import EngineSpec
from benchmarks.engines.process import Info, Reply
from compressor.bundle import Manifest, dump_manifest, tokenizer_digest
from compressor.bundle_records import FileRecord, Precision
from compressor.generation_config import GenerationConfig

GENERATION = GenerationConfig(start_id=3, eos_id=2, pad_id=3, max_new_tokens=20)


@pytest.fixture
def manifest_only(tmp_path: Path) -> Path:
    """A folder that says it is a bundle in fp32 and int8; enough to decide what is measured."""
    record = FileRecord(size=1, sha256="0" * 64)
    files, precisions = {"tokenizer/vocab.json": record}, {}
    for name, size in (("fp32", 400), ("int8", 100)):
        graphs = {graph: f"{name}/{graph}.onnx" for graph in ("generate", "generate_beams", "encoder", "decoder_step")}
        files |= dict.fromkeys(graphs.values(), record)
        files[f"{name}/weights.bin"] = FileRecord(size=size, sha256="1" * 64)
        precisions[name] = Precision(graphs=graphs, weights=f"{name}/weights.bin", scheme="test")
    manifest = Manifest(
        task="translation",
        architecture="transformer",
        sizes={},
        parameters=7,
        vocab_size=9,
        tokenizer_digest=tokenizer_digest(files),
        generation=GENERATION,
        max_source_tokens=32,
        max_new_tokens=16,
        max_num_beams=1,
        precisions=precisions,
        files=files,
    )
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "bundle.json").write_text(dump_manifest(manifest), encoding="utf-8")
    return folder


class FakeHost:
    """Takes as many seconds as it is told, echoes the text, and writes down who was called with how many texts."""

    def __init__(
        self, spec: EngineSpec, seconds: float, tokens: int, beams: int | None, log: list[tuple[str, int, int]]
    ):
        self.info = Info(parameters=11, size_mb=2.5, max_num_beams=beams, load_s=0.0)
        self.spec, self.seconds, self.tokens, self.log = spec, seconds, tokens, log
        self.closed = False

    def translate(self, texts: Sequence[str], num_beams: int) -> Reply:
        self.log.append((self.spec.name, len(texts), num_beams))
        seconds = self.seconds * len(texts) * num_beams
        return Reply(seconds, [text.upper() for text in texts], [self.tokens] * len(texts))

    def reset_peak(self) -> None:
        pass

    def memory_mb(self) -> float:
        return 12.34

    def close(self) -> None:
        self.closed = True


class Stage:
    """Makes fake hosts and remembers them. Seconds a sentence, tokens a sentence and widest search by contender."""

    cast: ClassVar[dict[str, tuple[float, int, int | None]]] = {
        "teacher transformers fp32": (0.100, 10, None),
        "student torch fp32": (0.020, 8, None),
        "student onnx fp32": (0.010, 8, 1),
        "student onnx int8": (0.004, 9, 1),
    }

    def __init__(self) -> None:
        self.log: list[tuple[str, int, int]] = []
        self.hosts: list[FakeHost] = []
        self.threads: list[int] = []

    def connect(self, spec: EngineSpec, threads: int) -> FakeHost:
        self.threads.append(threads)
        self.hosts.append(FakeHost(spec, *self.cast[spec.name], self.log))
        return self.hosts[-1]


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def test_set(tmp_path: Path) -> Callable[[int], tuple[Path, Path]]:
    """Writes so many numbered sentences; the references are what a fake host answers."""

    def write(count: int) -> tuple[Path, Path]:
        lines = [f"sentence number {index} of this file" for index in range(count)]
        source, reference = tmp_path / "test.de", tmp_path / "test.en"
        source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        reference.write_text("".join(f"{line.upper()}\n" for line in lines), encoding="utf-8")
        return source, reference

    return write


@pytest.fixture(scope="session")
def marian_folder(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run as a Hugging Face checkpoint, with a fast tokenizer of whole words around it."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    from compressor.models.weights import load_run
    from compressor.teachers.conversion.marian import to_marian

    run = load_run(tiny_run)
    folder = tmp_path_factory.mktemp("marian")
    to_marian(run.model, run.generation).save_pretrained(folder)
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(run.model.config.vocab_size)}, unk_token="w0"))
    words.pre_tokenizer = Whitespace()
    eos, pad = f"w{run.generation.eos_id}", f"w{run.generation.pad_id}"
    words.post_processor = TemplateProcessing(single=f"$A {eos}", special_tokens=[(eos, run.generation.eos_id)])
    fast = PreTrainedTokenizerFast(tokenizer_object=words, eos_token=eos, pad_token=pad, unk_token="w0")
    fast.save_pretrained(folder)
    return folder

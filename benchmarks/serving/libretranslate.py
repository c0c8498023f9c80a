"""LibreTranslate's own server on one of our models, to compare with.

LibreTranslate translates with Argos Translate, whose model is a folder: a CTranslate2 model whose vocabulary is
SentencePiece's, that SentencePiece model, and a sentence splitter. It runs in an environment of its own.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ctranslate2.converters import TransformersConverter

import compressor
from benchmarks.engines.ctranslate2.engine import COMPUTE_TYPES
from benchmarks.engines.environments import environment, failure_of
from benchmarks.serving.dialects import Languages
from benchmarks.serving.launch import Launched, launched
from compressor.errors import ModelError
from compressor.run_folder import is_run

NAME = "libretranslate"
PACKAGES = ("libretranslate==1.9.6", "spacy")
"""spaCy splits sentences by rules; LibreTranslate's default splitter is downloaded at its first start."""
SPLITTER = "import spacy, sys; [spacy.blank(sys.argv[1]).to_disk(folder) for folder in sys.argv[2:]]"


@contextlib.contextmanager
def libretranslate(
    model: Path, *, precision: str, languages: Languages, threads: int, clients: int
) -> Iterator[Launched]:
    """Serves a model with LibreTranslate, greedily.

    Args:
        model: A run, or a Marian checkpoint, with one SentencePiece model for both sides.
        precision: ``fp32`` or ``int8``.
        languages: Codes of source and target.
        threads: Batches that CTranslate2 translates at a time, with one thread each.
        clients: Requests that the server takes at a time.

    Raises:
        ModelError: the model's layout is another one.
        DependencyError: LibreTranslate cannot be installed.
        CompressError: it does not start.
    """
    python = environment(NAME, PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        data, cache = Path(folder) / "data", Path(folder) / "cache"
        source, target = languages.source or "de", languages.target or "en"
        # With fewer than two packages it asks for more over the network at each start.
        package = write_package(model, data / "packages" / "there", precision, source, target)
        _write_metadata(shutil.copytree(package, data / "packages" / "back"), target, source)
        splitters = [data / "packages" / "there" / "spacy", data / "packages" / "back" / "spacy"]
        cached = cache / "argos-translate" / "spacy"  # of the splitter for all languages, which it would download
        cached.parent.mkdir(parents=True)
        if failure := failure_of([python, "-c", SPLITTER, source, *map(str, [*splitters, cached])]):
            raise ModelError(f"{source}: spaCy has no sentence splitter for it ({failure})")
        (cached / "senter").mkdir()
        (cached / "senter" / "model").touch()
        settings = {
            "ARGOS_PACKAGES_DIR": str(data / "packages"),
            "XDG_DATA_HOME": str(data),
            "XDG_CACHE_HOME": str(cache),
            "ARGOS_CHUNK_TYPE": "SPACY",
            "ARGOS_INTER_THREADS": str(threads),
            "ARGOS_INTRA_THREADS": "1",
            "ARGOS_COMPUTE_TYPE": COMPUTE_TYPES[precision],
            "ARGOS_BEAM_SIZE": "1",
        }
        port = _free_port()
        program = str(Path(python).with_name(NAME))
        options = ["--host", "127.0.0.1", "--port", str(port), "--threads", str(clients)]
        options += ["--disable-web-ui", "--disable-files-translation"]
        where = f"http://127.0.0.1:{port}"
        with launched([program, *options], url=where, environment=settings, ready="/languages") as server:
            yield server


def write_package(model: Path, folder: Path, precision: str, source: str, target: str) -> Path:
    """Writes a model as an Argos package without a sentence splitter, and returns the folder.

    Raises:
        ModelError: the model's layout is not Marian's, or each side has a SentencePiece model of its own.
    """
    with tempfile.TemporaryDirectory() as temporary:
        checkpoint = Path(temporary) / "checkpoint"
        if is_run(model):
            compressor.export(model, checkpoint, format="transformers", progress=False)
        else:
            checkpoint = model
        pieces = checkpoint / "source.spm"
        if not pieces.is_file() or pieces.read_bytes() != (checkpoint / "target.spm").read_bytes():
            raise ModelError(f"{model}: LibreTranslate needs one SentencePiece model for both sides")
        folder.mkdir(parents=True)
        TransformersConverter(str(checkpoint)).convert(str(folder / "model"), quantization=COMPUTE_TYPES[precision])
        shutil.copy(pieces, folder / "sentencepiece.model")
    path = folder / "model" / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"add_source_eos": True}), encoding="utf-8")  # Argos gives the pieces alone
    _write_metadata(folder, source, target)
    return folder


def _write_metadata(folder: Path, source: str, target: str) -> None:
    names = {"from_code": source, "from_name": source, "to_code": target, "to_name": target}
    versions = {"package_version": "1.0", "argos_version": "1.9", "type": "translate"}
    (folder / "metadata.json").write_text(json.dumps(versions | names), encoding="utf-8")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

"""Reads and checks bundles: folders that hold everything needed to generate, and the record of their origin.

::

    bundle.json        the manifest: model, quality, origin, and the SHA-256 of every other file
    fp32/ int8/ ...    one folder a precision: generate.onnx, generate_beams.onnx, encoder.onnx, decoder_step.onnx and
                       weights.bin
    tokenizer/         as ``compressor.text.tokenizer`` saves it
    parity.json        comparison of the graphs with PyTorch and with each other; lists all differences
    README.md          model card

The default precision on a CPU is int8, else mixed, else fp32; int4 loses more quality, and a CPU only emulates fp16.
The default on a GPU is fp16, else fp32.

A bundle may come from an untrusted source. Manifest, checksums, operators and the locations of external weights are
checked before anything is loaded. Checksums show integrity; for authenticity, pass ``expect_digest``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field, ValidationError

from compressor.bundle_records import Case, FileRecord, Lineage, ParitySummary, Part, Precision, Robustness, is_none
from compressor.errors import BundleError, InputError
from compressor.generation_config import GenerationConfig
from compressor.onnx_inspect import graph_needs
from compressor.output_limit import OutputLimit
from compressor.run_folder import MODEL_FILE

FORMAT_VERSION = 4
MANIFEST_FILE, PARITY_FILE, CARD_FILE, TOKENIZER_FOLDER = "bundle.json", "parity.json", "README.md", "tokenizer"
GENERATE, GENERATE_BEAMS, ENCODER, DECODER_STEP = "generate", "generate_beams", "encoder", "decoder_step"
WEIGHTS_FILE = "weights.bin"

PRECISIONS = {
    "fp32": "32-bit floating point",
    "fp16": "16-bit floating point; logits and scores in 32 bits",
    "int8": "8-bit weights a column, 8-bit activations with static scales; embedding 8-bit a row",
    "int4": "4-bit weights in blocks of 32, 8-bit activations with a scale a row and block; embedding 8-bit a row",
    "mixed": "each matmul in the format that was fastest at export: fp32, int8's, or 8-bit weights in blocks; "
    "embedding 8-bit a row",
}
"""Precisions, and how weights are stored and multiplied in each."""

SHORTLIST = "+shortlist"
"""Suffix of a precision whose graphs generate only tokens of a lexical shortlist."""

DEFAULTS = {"cpu": ("int8", "mixed", "fp32"), "cuda": ("fp16", "fp32")}
"""Default precisions by device, the preferred one first."""

# Size limits, in bytes, of files that are read into memory whole.
_MAX_MANIFEST, _MAX_GRAPH = 4 << 20, 64 << 20
_DOMAINS = {"", "ai.onnx", "com.microsoft"}


class Manifest(Part):
    """Content of ``bundle.json``."""

    format_version: Literal[4] = Field(4, description="Raised when an older reader cannot read the bundle.")
    task: Literal["translation", "summarization"] = Field(description="Task of the model.")
    source_language: str | None = Field(None, description="ISO code.")
    target_language: str | None = Field(None, description="ISO code.")
    architecture: str = Field(description="Architecture of the model.")
    sizes: dict[str, Any] = Field(description="The model's configuration.")
    parameters: int = Field(ge=0, description="Number of parameters; tied weights count once.")
    vocab_size: int = Field(ge=1, description="Rows of the embedding; token ids are below it.")
    tokenizer_digest: str = Field(description="SHA-256 over the tokenizer's files.")
    text_frame: dict[str, Any] = Field({}, description="Prefix and token ids around every source.")
    generation: GenerationConfig = Field(description="Special tokens and defaults of the search.")
    max_source_tokens: int = Field(ge=1, description="Maximum source length in tokens.")
    truncation: Literal["error", "longest_first"] = Field(
        "error",
        exclude_if=lambda value: value == "error",
        description="Default for sources over the limit; longest_first: they are cut, as in training.",
    )
    max_new_tokens: int = Field(ge=1, description="Maximum output length of a call.")
    output_limit: OutputLimit | None = Field(
        None, exclude_if=is_none, description="Default of max_new_tokens by source length; null: that of generation."
    )
    recased: tuple[Case, ...] = Field(
        (),
        exclude_if=lambda value: not value,
        description="Letter cases of sentences that are read in the usual one, because dev scores rise by it.",
    )
    max_num_beams: int = Field(ge=1, description="Maximum number of beams of a call.")
    precisions: dict[str, Precision] = Field(min_length=1, description="By name: fp32, int8, ...")
    parity: ParitySummary | None = Field(None, description="Summary of parity.json.")
    robustness: Robustness | None = Field(
        None, exclude_if=is_none, description="Measured after the export; null where it was not."
    )
    lineage: Lineage = Field(default_factory=Lineage, description="Origin of the model.")
    files: dict[str, FileRecord] = Field(description="Every file except the manifest.")

    @property
    def default_precision(self) -> str:
        """The default precision on a CPU."""
        return self.default_for("cpu")

    def default_for(self, device: str) -> str:
        """Returns the first of the device's ``DEFAULTS`` that the bundle has, else its first precision."""
        return next((name for name in DEFAULTS[device] if name in self.precisions), next(iter(self.precisions)))

    def default_max_new_tokens(self, source_tokens: int, min_new_tokens: int | None = None) -> int:
        """Returns the maximum output length of a source for which the caller gives none.

        Args:
            source_tokens: Length of the source.
            min_new_tokens: Minimum output length, None: the default; a learned limit that is not above it is not used.
        """
        longest = self.generation.max_new_tokens
        shortest = self.generation.min_new_tokens if min_new_tokens is None else min_new_tokens
        learned = longest if self.output_limit is None else self.output_limit.tokens(source_tokens)
        return min(longest, learned) if learned > shortest else longest

    def precision(self, name: str | None) -> Precision:
        """Returns a precision by name; None is the default. Raises InputError with the available names."""
        name = name or self.default_precision
        if name not in self.precisions:
            message = f"{{precision}} {name!r}: this bundle has {', '.join(self.precisions)}"
            raise InputError(message, option="precision", actual=name)
        return self.precisions[name]

    def weight_files(self, precision: str | None) -> list[str]:
        """Returns the files that ``generate`` needs in a precision, without the tokenizer."""
        chosen = self.precision(precision)
        return [chosen.graphs[GENERATE], chosen.weights]


def base_precision(name: str) -> str:
    """Returns the precision whose weights a precision uses: ``int8+shortlist`` -> ``int8``."""
    return name.removesuffix(SHORTLIST)


def read_manifest(folder: Path) -> Manifest:
    """Reads and validates the manifest, without checking the files.

    Raises:
        BundleError: it is missing, not JSON, of another format version, or has wrong fields (all are listed).
    """
    return _parse(folder, _manifest_bytes(folder))


def open_bundle(folder: Path, expect_digest: str | None = None) -> Manifest:
    """Reads the manifest and checks every file against it.

    Args:
        folder: The bundle.
        expect_digest: Required value of ``digest``, from a trusted source.

    Raises:
        BundleError: files are missing, truncated, altered, unsafe or not in the manifest (all are listed).
    """
    data = _manifest_bytes(folder)
    actual = hashlib.sha256(data).hexdigest()
    if expect_digest is not None and actual != expect_digest.lower():
        raise BundleError(
            f"{folder}: the manifest's digest is {actual}, expected {expect_digest}; get the bundle again"
        )
    manifest = _parse(folder, data)
    problems = list(_file_problems(folder, manifest)) or list(_graph_problems(folder, manifest))
    if problems:
        raise BundleError(f"{folder}: {'; '.join(problems)}; get or export the bundle again")
    return manifest


def digest(folder: Path) -> str:
    """Returns the SHA-256 of the manifest, which contains the SHA-256 of every other file."""
    return hashlib.sha256(_manifest_bytes(folder)).hexdigest()


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Returns the records of all files below ``folder`` except the manifest."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    names.pop(MANIFEST_FILE, None)
    return {name: file_record(path) for name, path in names.items()}


def file_record(path: Path) -> FileRecord:
    """Returns size and checksum of a file."""
    return FileRecord(size=path.stat().st_size, sha256=_sha256(path))


def tokenizer_digest(files: dict[str, FileRecord]) -> str:
    """Returns one SHA-256 over the names and checksums of the tokenizer's files."""
    checksums = {name: record.sha256 for name, record in files.items() if name.startswith(f"{TOKENIZER_FOLDER}/")}
    return hashlib.sha256(json.dumps(checksums, sort_keys=True).encode()).hexdigest()


def dump_manifest(manifest: Manifest) -> str:
    """Returns the manifest as JSON text."""
    return manifest.model_dump_json(indent=1) + "\n"


def _manifest_bytes(folder: Path) -> bytes:
    """Reads the manifest file. Raises BundleError if there is none, or it is a link or too large."""
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such bundle; `compress export` makes one from a run")
    for file, kind in ((MODEL_FILE, "a run"), ("config.json", "a Hugging Face checkpoint")):
        if (folder / file).is_file() and not path.exists():
            raise BundleError(f"{folder}: {kind}, not a bundle; export it first: `compress export {folder} --out DIR`")
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"{folder}: not a bundle ({MANIFEST_FILE} is missing or not a regular file)")
    if path.stat().st_size > _MAX_MANIFEST:
        raise BundleError(f"{path}: larger than a manifest can be ({path.stat().st_size} bytes)")
    return path.read_bytes()


def _parse(folder: Path, data: bytes) -> Manifest:
    """Returns the manifest in ``data``. Raises BundleError, with all problems, if it is of another format or wrong."""
    path = folder / MANIFEST_FILE
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise BundleError(f"{path}: not valid JSON; get or export the bundle again") from None
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: format version {version}, this program reads {FORMAT_VERSION}; export it again from its run "
            "or checkpoint with this version (`compress export RUN --out DIR`), or install "
            f"{_writer(values)} that wrote it"
        )
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise BundleError(f"{path}: {wrong}") from None
    problems = list(_manifest_problems(manifest))
    if problems:
        raise BundleError(f"{path}: {'; '.join(problems)}")
    return manifest


def _writer(values: Any) -> str:
    """Returns the package and version that wrote a manifest of another format, if the manifest names it."""
    try:
        version = values["lineage"]["provenance"]["export"]["versions"]["compressor"]
    except (KeyError, TypeError):
        version = None
    return f"compressor {version}" if isinstance(version, str) else "the version of compressor"


def _manifest_problems(manifest: Manifest) -> Iterator[str]:
    """Yields the inconsistencies inside the manifest."""
    for name in manifest.files:
        if not _inside(name) or name == MANIFEST_FILE:
            yield f"files: {name!r} is not a path inside the bundle"
    for name, precision in manifest.precisions.items():
        if missing := {GENERATE, GENERATE_BEAMS, ENCODER, DECODER_STEP} - set(precision.graphs):
            yield f"precisions.{name}.graphs: {', '.join(sorted(missing))} missing"
        for file in (*precision.graphs.values(), precision.weights):
            if file not in manifest.files:
                yield f"precisions.{name}: {file!r} is not among the files"
    if not any(name.startswith(f"{TOKENIZER_FOLDER}/") for name in manifest.files):
        yield "files: no tokenizer"
    if manifest.tokenizer_digest != tokenizer_digest(manifest.files):
        yield "tokenizer_digest: does not fit the tokenizer's files"


def _inside(name: str) -> bool:
    """Returns whether a file name of the manifest is a plain path inside the bundle."""
    path = PurePosixPath(name)
    return path.as_posix() == name and not path.is_absolute() and not {"..", "."} & set(path.parts) and "\\" not in name


def _file_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Yields the files that are missing, altered, links, or not in the manifest."""
    for name, record in manifest.files.items():
        path = folder / name
        parts = [folder / parent for parent in PurePosixPath(name).parents]
        if any(part.is_symlink() for part in [path, *parts[:-1]]):
            yield f"{name} is a symbolic link"
        elif not path.is_file():
            yield f"{name} is missing"
        elif (size := path.stat().st_size) != record.size:
            kind = "truncated" if size < record.size else "altered"
            yield f"{name} is {kind} ({size} bytes, expected {record.size})"
        elif _sha256(path) != record.sha256:
            yield f"{name} is altered (its SHA-256 differs)"
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)  # .DS_Store, .gitattributes
        if not hidden and (path.is_symlink() or path.is_file()) and name not in {*manifest.files, MANIFEST_FILE}:
            yield f"{name} is not in the manifest"


def _graph_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Yields unsafe operators and external weights of the graphs, whose files must have been checked before."""
    for name in sorted(name for name in manifest.files if name.endswith(".onnx")):
        if manifest.files[name].size > _MAX_GRAPH:
            yield f"{name} is larger than a graph can be"
            continue
        try:
            needs = graph_needs((folder / name).read_bytes())
        except ValueError as error:
            yield f"{name} is not an ONNX file ({error})"
            continue
        if foreign := needs.domains - _DOMAINS:
            yield f"{name} uses operators of {', '.join(sorted(foreign))}, which need a library of their own"
        for external in set(needs.externals):
            place = (PurePosixPath(name).parent / external.location).as_posix()
            if not _inside(external.location) or place not in manifest.files:
                yield f"{name} reads weights from {external.location!r}, which is not a file of the bundle"
            elif not 0 <= external.offset <= external.offset + max(external.length, 0) <= manifest.files[place].size:
                yield f"{name} reads weights beyond the end of {place}"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

"""The exported artefact: a folder that holds everything needed to generate, and says where it came from.

::

    bundle.json        the manifest: what this is, how good, made from what, and the SHA-256 of every other file
    fp32/ int8/ ...    a precision each: generate.onnx, generate_beams.onnx, encoder.onnx, decoder_step.onnx, and their
                       weights.bin
    tokenizer/         as ``compressor.text.tokenizer`` saves it
    parity.json        how the graphs compare with PyTorch and with each other, exceptions listed
    README.md          model card

Where nobody names a precision, a processor takes int8 if it is there, else mixed, else fp32: never int4, the smallest,
which loses more, nor fp16, which a processor only emulates. A GPU takes fp16, else fp32.

A bundle may come from a stranger: nothing in it is trusted before the manifest, the checksums, the operators and the
places of external weights have been checked. A checksum is integrity, not authenticity; ``expect_digest`` is for that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compressor.errors import BundleError, InputError
from compressor.generation_config import GenerationConfig
from compressor.onnx_inspect import graph_needs

FORMAT_VERSION = 4
MANIFEST_FILE, PARITY_FILE, CARD_FILE, TOKENIZER_FOLDER = "bundle.json", "parity.json", "README.md", "tokenizer"
GENERATE, GENERATE_BEAMS, ENCODER, DECODER_STEP = "generate", "generate_beams", "encoder", "decoder_step"
WEIGHTS_FILE = "weights.bin"

PRECISIONS = {
    "fp32": "32-bit floating point",
    "fp16": "16-bit floating point; logits and scores in 32 bits",
    "int8": "8-bit weights a column, 8-bit activations with static scales; embedding 8-bit in blocks",
    "int4": "4-bit weights in blocks of 32, 8-bit activations with a scale a row and block; embedding 8-bit in blocks",
    "mixed": "each product in its fastest form at export: fp32, int8's, or 8-bit weights in blocks; embedding 8-bit in "
    "blocks",
}
"""Precisions that an export knows, and how weights are stored and multiplied in each."""

SHORTLIST = "+shortlist"
"""Ends the name of a precision whose graphs write only what a lexical shortlist allows."""

DEFAULTS = {"cpu": ("int8", "mixed", "fp32"), "cuda": ("fp16", "fp32")}
"""Precisions that are taken unasked, the best first, by device."""

# What is read into memory whole is bounded before it is read.
_MAX_MANIFEST, _MAX_GRAPH, _MAX_FILE = 4 << 20, 64 << 20, 16 << 30
_DOMAINS = {"", "ai.onnx", "com.microsoft"}


def _is_none(value: object) -> bool:
    return value is None


class Part(BaseModel):
    """A section of the manifest: frozen, and a field that is not known is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(Part):
    """A file as it was written."""

    size: int = Field(ge=0, le=_MAX_FILE, description="Bytes.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Hexadecimal.")


class Quality(Part):
    """Score of a precision on dev data."""

    metric: str = Field(description="bleu or rouge_l.")
    against_fp32: float | None = Field(None, description="Score with the fp32 outputs as references; null for fp32.")
    against_references: float | None = Field(None, description="Score with human references, where they were given.")
    sentences: int = Field(ge=0, description="How many sources were scored.")
    signature: str | None = Field(None, description="Signature of the metric.")
    processor_features: tuple[str, ...] = Field((), description="Processor features that it was measured on.")


class ShortlistSizes(Part):
    """What a lexical shortlist was learned from, and how many tokens it allows."""

    pairs: int = Field(ge=1, description="Sources with a teacher's output.")
    always: int = Field(ge=1, description="Tokens that are allowed whatever the source.")
    likely: int = Field(ge=1, description="Tokens that each token of a source allows.")


class ProductForm(Part):
    """The form that products of one size got in a mixed precision, and why."""

    graph: str = Field(description="encoder or decoder_step: where they are.")
    d: int = Field(ge=1, description="Inputs.")
    columns: int = Field(ge=1, description="Outputs.")
    rows: int = Field(ge=1, description="Rows that are meant: of a batch, in the encoder times tokens of a source.")
    count: int = Field(ge=1, description="How many products have this size.")
    form: str = Field(description="fp32, int8 (static scales) or blocks (8-bit weights in blocks).")
    microseconds: dict[str, float] = Field(description="Least time, by form, alone on one thread.")


class Precision(Part):
    """One form of the weights."""

    graphs: dict[str, str] = Field(description="Graph name (generate, generate_beams, encoder, decoder_step) to file.")
    weights: str = Field(description="File of the weights that the graphs share.")
    scheme: str = Field(description="How weights are stored and multiplied.")
    float_layers: tuple[str, ...] = Field((), description="Layers that stay in fp32, for quality's sake.")
    batch_size: int | None = Field(None, exclude_if=_is_none, description="Of mixed: the batch that it is meant for.")
    products: tuple[ProductForm, ...] | None = Field(
        None, exclude_if=_is_none, description="Of mixed: form and timings of every size of product."
    )
    shortlist: ShortlistSizes | None = Field(
        None, exclude_if=_is_none, description="Of a precision that ends with +shortlist."
    )
    quality: Quality | None = Field(None, description="Measured at export; null where there were no sources.")


class ParitySummary(Part):
    """The heads of ``parity.json``."""

    sources: int = Field(description="Dev sources compared.")
    fp32_identical: int = Field(description="Sources on which fp32 gives PyTorch's tokens exactly.")
    fp32_near_ties: int = Field(description="Sources that differ at a near-tie, listed in parity.json.")
    batch_sources: int = Field(description="Sources generated alone, in eights and in thirty-twos.")
    batch_exceptions: dict[str, int] = Field(description="Precision to sources whose output moved with the batch.")


class Lineage(Part):
    """What the model was made from."""

    method: str | None = Field(None, description="Row of the method table.")
    teacher: dict[str, Any] | None = Field(None, description="Name, revision, parameters, licence of the teacher.")
    recipe: dict[str, Any] | None = Field(None, description="The whole recipe.")
    data: Any = Field(None, description="Fingerprints of the data files.")
    licences: dict[str, str] = Field({}, description="Terms of the weights, the teacher, the data.")
    scores: dict[str, Any] = Field({}, description="The run's scores on dev.")
    provenance: dict[str, Any] = Field({}, description="Of training, and of the export.")


class Manifest(Part):
    """Content of ``bundle.json``."""

    format_version: Literal[4] = Field(4, description="Raised when an older reader could not understand it.")
    task: Literal["translation", "summarization"] = Field(description="What the model does.")
    source_language: str | None = Field(None, description="ISO code.")
    target_language: str | None = Field(None, description="ISO code.")
    architecture: str = Field(description="Family of the model.")
    sizes: dict[str, Any] = Field(description="The model's configuration.")
    parameters: int = Field(ge=0, description="Trained numbers, tied weights once.")
    vocab_size: int = Field(ge=1, description="Rows of the embedding: ids are below it.")
    tokenizer_digest: str = Field(description="SHA-256 over the tokenizer's files.")
    text_frame: dict[str, Any] = Field({}, description="Prefix and ids around every source.")
    generation: GenerationConfig = Field(description="Tokens and defaults of the search.")
    max_source_tokens: int = Field(ge=1, description="Longest source in tokens.")
    max_new_tokens: int = Field(ge=1, description="Longest output that a caller may ask for.")
    max_num_beams: int = Field(ge=1, description="Most beams that a caller may ask for.")
    precisions: dict[str, Precision] = Field(min_length=1, description="By name: fp32, int8, ...")
    parity: ParitySummary | None = Field(None, description="Summary of parity.json.")
    lineage: Lineage = Field(default_factory=Lineage, description="What the model was made from.")
    files: dict[str, FileRecord] = Field(description="Every file but the manifest itself.")

    @property
    def default_precision(self) -> str:
        """What a processor runs unless told otherwise."""
        return self.default_for("cpu")

    def default_for(self, device: str) -> str:
        """The best of ``DEFAULTS`` that there is; of others the first."""
        return next((name for name in DEFAULTS[device] if name in self.precisions), next(iter(self.precisions)))

    def precision(self, name: str | None) -> Precision:
        """A precision by name; None is the default. Raises InputError with the names that there are."""
        name = name or self.default_precision
        if name not in self.precisions:
            message = f"{{precision}} {name!r}: this bundle has {', '.join(self.precisions)}"
            raise InputError(message, option="precision", actual=name)
        return self.precisions[name]

    def weight_files(self, precision: str | None) -> list[str]:
        """The files that ``generate`` needs in that precision, tokenizer aside."""
        chosen = self.precision(precision)
        return [chosen.graphs[GENERATE], chosen.weights]


def base_precision(name: str) -> str:
    """``int8+shortlist`` -> ``int8``: whose weights a precision has."""
    return name.removesuffix(SHORTLIST)


def read_manifest(folder: Path) -> Manifest:
    """Reads and validates the manifest alone; files are not looked at.

    Raises:
        BundleError: it is missing, not JSON, of another version, or fields are wrong (all listed).
    """
    return _parse(folder, _manifest_bytes(folder))


def open_bundle(folder: Path, expect_digest: str | None = None) -> Manifest:
    """Reads the manifest, then checks every file against it.

    Args:
        folder: The bundle.
        expect_digest: What ``digest`` must be, from a source that is trusted.

    Raises:
        BundleError: lists everything that is missing, truncated, altered, unsafe or not in the manifest.
    """
    data = _manifest_bytes(folder)
    found = hashlib.sha256(data).hexdigest()
    if expect_digest is not None and found != expect_digest.lower():
        raise BundleError(f"{folder}: the manifest's digest is {found}, expected {expect_digest}; get the bundle again")
    manifest = _parse(folder, data)
    problems = list(_file_problems(folder, manifest)) or list(_graph_problems(folder, manifest))
    if problems:
        raise BundleError(f"{folder}: {'; '.join(problems)}; get or export the bundle again")
    return manifest


def digest(folder: Path) -> str:
    """SHA-256 of the manifest, which holds the SHA-256 of every other file."""
    return hashlib.sha256(_manifest_bytes(folder)).hexdigest()


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Records of every file below ``folder``, the manifest aside."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    names.pop(MANIFEST_FILE, None)
    return {name: FileRecord(size=path.stat().st_size, sha256=_sha256(path)) for name, path in names.items()}


def tokenizer_digest(files: dict[str, FileRecord]) -> str:
    """One digest over the tokenizer's files and their names."""
    mine = {name: record.sha256 for name, record in files.items() if name.startswith(f"{TOKENIZER_FOLDER}/")}
    return hashlib.sha256(json.dumps(mine, sort_keys=True).encode()).hexdigest()


def dump_manifest(manifest: Manifest) -> str:
    """The manifest as it is written."""
    return manifest.model_dump_json(indent=1) + "\n"


def _manifest_bytes(folder: Path) -> bytes:
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such bundle; `compress export` makes one from a run")
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"{folder}: not a bundle ({MANIFEST_FILE} is missing or not a regular file)")
    if path.stat().st_size > _MAX_MANIFEST:
        raise BundleError(f"{path}: larger than a manifest can be ({path.stat().st_size} bytes)")
    return path.read_bytes()


def _parse(folder: Path, data: bytes) -> Manifest:
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
    """What does not fit together inside the manifest."""
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
    path = PurePosixPath(name)
    return path.as_posix() == name and not path.is_absolute() and not {"..", "."} & set(path.parts) and "\\" not in name


def _file_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
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
    """Operators and external weights of every graph; to be asked once the files are known to be regular and whole."""
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

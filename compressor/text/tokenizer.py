"""Tokenizers: text to token ids and back, without torch.

There are three kinds, recognized by their files:

- ``sentencepiece.model``: one SentencePiece model with its own ids (trained by the project);
- ``vocab.json`` with ``source.spm`` and ``target.spm`` (Marian) or ``sentencepiece.bpe.model`` (M2M100, and Marian
  where its two models are equal and one copy is stored): SentencePiece pieces, ids from the vocabulary file;
- ``tokenizer.json``: a Hugging Face fast tokenizer (BART, mBART, NLLB, Pegasus, T5).

``compress_tokenizer.json`` beside them stores the text frame: a text prefix such as "summarize: ", and the ids added
before and after the ids of a text (language, end of sentence).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import sentencepiece
from pydantic import BaseModel, ConfigDict
from tokenizers import Tokenizer as FastTokenizer

from compressor.errors import ModelError
from compressor.files import write_atomic
from compressor.text.marian_languages import check_language, language_tokens

FRAME_FILE = "compress_tokenizer.json"
JOINT = "sentencepiece.bpe.model"
"""File name of one SentencePiece model for source and target."""
_UNKNOWN = -30.0
"""Log probability of a byte or of an unknown piece, for which SentencePiece says 0."""


class TextFrame(BaseModel):
    """Text prefix and token ids that are added around a text, and its special tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    eos_id: int
    pad_id: int
    text_prefix: str = ""
    source_prefix_ids: tuple[int, ...] = ()
    source_suffix_ids: tuple[int, ...] = ()
    special_ids: tuple[int, ...] = ()


class Tokenizer(ABC):
    """Encodes text to ids and decodes ids to text; ``decode`` drops special tokens and ids outside the vocabulary."""

    names: ClassVar[tuple[str, ...]]
    """Names of the files of this kind; the first one identifies it."""

    def __init__(self, files: dict[str, bytes], frame: TextFrame) -> None:
        self.files = files
        self.frame = frame

    @property
    def eos_id(self) -> int:
        """Id of the end-of-sentence token."""
        return self.frame.eos_id

    @property
    def pad_id(self) -> int:
        """Id of the padding token."""
        return self.frame.pad_id

    @cached_property
    def vocab_size(self) -> int:
        """The largest token id plus one."""
        return max(self.vocab.values()) + 1

    @property
    def has_separate_vocabularies(self) -> bool:
        """Whether an id is another token in a source than in a target."""
        return False

    @property
    @abstractmethod
    def vocab(self) -> dict[str, int]:
        """Target tokens to ids."""

    @abstractmethod
    def _encode(self, text: str, target: bool) -> list[int]:
        """Ids of a text, without the frame; ``target`` selects the target vocabulary."""

    @abstractmethod
    def _decode(self, ids: list[int], target: bool) -> str:
        """Text of ids without special tokens; ``target`` selects the target vocabulary."""

    def encode_source(self, text: str) -> list[int]:
        """Ids of a source text, with the text frame that the model expects."""
        ids = self._encode(self.frame.text_prefix + text, target=False)
        return [*self.frame.source_prefix_ids, *ids, *self.frame.source_suffix_ids]

    @property
    def example(self) -> str:
        """A text that ``encode_source`` takes."""
        return "1"

    def encode_target(self, text: str) -> list[int]:
        """Ids of a target text, ending with EOS, without a start token."""
        return [*self._encode(text, target=True), self.eos_id]

    def decode_source(self, ids: Sequence[int]) -> str:
        """Text of the ids of a source, without the text frame; white space as the tokenizer normalizes it."""
        frame = self.frame
        end = len(ids) - len(frame.source_suffix_ids)
        text = self._decode(list(ids[len(frame.source_prefix_ids) : end]), target=False)
        return text.removeprefix(frame.text_prefix)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids."""
        written = [index for index in ids if index not in self._skipped and index < self.vocab_size]
        return self._decode(written, target=True)

    @cached_property
    def _skipped(self) -> frozenset[int]:
        return frozenset((self.eos_id, self.pad_id, *self.frame.special_ids))

    def log_probability(self, text: str) -> float:
        """Log probability of a source text by the frequencies of its pieces; 0 where they are unknown."""
        return 0.0

    def compact(self) -> Tokenizer:
        """This tokenizer, or one that gives every text the same ids from fewer files."""
        return self

    def save(self, folder: Path) -> None:
        """Writes the tokenizer's files into ``folder``. Raises StorageError."""
        for name, content in self.files.items():
            write_atomic(folder / name, content)
        write_atomic(folder / FRAME_FILE, self.frame.model_dump_json(indent=1) + "\n")


class SentencePieceTokenizer(Tokenizer):
    """One SentencePiece model for source and target."""

    names = ("sentencepiece.model",)

    def __init__(self, files: dict[str, bytes], frame: TextFrame | None = None) -> None:
        self.pieces = _sentencepiece(files, "sentencepiece.model")
        super().__init__(files, frame or self._default_frame())

    def _default_frame(self) -> TextFrame:
        eos, pad = self.pieces.eos_id(), self.pieces.pad_id()
        if eos < 0 or pad < 0:
            raise ModelError("sentencepiece.model has no token for end of sentence or padding; train it with both")
        special = tuple(i for i in range(self.pieces.get_piece_size()) if self.pieces.is_control(i))
        return TextFrame(eos_id=eos, pad_id=pad, source_suffix_ids=(eos,), special_ids=special)

    @cached_property
    def vocab(self) -> dict[str, int]:
        """See Tokenizer."""
        return {self.pieces.id_to_piece(i): i for i in range(self.pieces.get_piece_size())}

    def log_probability(self, text: str) -> float:
        """See Tokenizer."""
        return _log_probability(self.pieces, text)

    def _encode(self, text: str, target: bool) -> list[int]:
        return self.pieces.encode(text)  # type: ignore[no-any-return]

    def _decode(self, ids: list[int], target: bool) -> str:
        return self.pieces.decode(ids)  # type: ignore[no-any-return]


class VocabularyTokenizer(Tokenizer):
    """SentencePiece pieces whose ids come from ``vocab.json`` (Marian, M2M100)."""

    names = ("vocab.json", "source.spm", "target.spm", JOINT, "target_vocab.json")

    def __init__(self, files: dict[str, bytes], frame: TextFrame | None = None) -> None:
        if "source.spm" in files and files["source.spm"] == files.get("target.spm"):
            files = {JOINT: files["source.spm"], **{name: files[name] for name in files if not name.endswith(".spm")}}
        self.source_pieces = _sentencepiece(files, JOINT if JOINT in files else "source.spm")
        self.target_pieces = self.source_pieces if JOINT in files else _sentencepiece(files, "target.spm")
        self._source_ids = _vocabulary(files, "vocab.json")
        separate = "target_vocab.json" in files
        self._target_ids = _vocabulary(files, "target_vocab.json") if separate else self._source_ids
        self._text_ids = {False: _without_control(self._source_ids), True: _without_control(self._target_ids)}
        self._target_tokens = {index: token for token, index in self._target_ids.items()}
        self._source_tokens = {index: token for token, index in self._source_ids.items()}
        super().__init__(files, frame or self._default_frame())

    def _default_frame(self) -> TextFrame:
        ids = [self._target_ids.get(token) for token in ("</s>", "<pad>", "<unk>")]
        if None in ids:
            raise ModelError("vocab.json lacks </s>, <pad> or <unk>")
        eos, pad, unknown = (index for index in ids if index is not None)
        return TextFrame(eos_id=eos, pad_id=pad, source_suffix_ids=(eos,), special_ids=(unknown,))

    @property
    def vocab(self) -> dict[str, int]:
        """See Tokenizer."""
        return self._target_ids

    @property
    def has_separate_vocabularies(self) -> bool:
        """See Tokenizer."""
        return self._source_ids != self._target_ids

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """The source tokens that name a target language (``>>fra<<``), in alphabetical order."""
        return language_tokens(self._source_ids)

    @property
    def example(self) -> str:
        """See Tokenizer."""
        needs_language = len(self.languages) > 1 and not self.frame.text_prefix
        return f"{self.languages[0]} 1" if needs_language else "1"

    def encode_source(self, text: str) -> list[int]:
        """See Tokenizer. Raises InputError for a text without a language that the model needs."""
        check_language(self.frame.text_prefix + text, self.languages)
        return super().encode_source(text)

    def log_probability(self, text: str) -> float:
        """See Tokenizer."""
        return _log_probability(self.source_pieces, text)

    def compact(self) -> Tokenizer:
        """See Tokenizer: where the ids are those of one SentencePiece model, it says them itself."""
        pieces = self.source_pieces
        own = {pieces.id_to_piece(i): i for i in range(pieces.get_piece_size()) if not pieces.is_control(i)}
        if JOINT not in self.files or self.has_separate_vocabularies or self.languages:
            return self
        if not own.items() <= self._source_ids.items():
            return self
        return SentencePieceTokenizer({"sentencepiece.model": self.files[JOINT]}, self.frame)

    def _encode(self, text: str, target: bool) -> list[int]:
        ids, language = self._target_ids if target else self._source_ids, []
        code = text.partition("<<")[0] + "<<"
        if not target and text.startswith(">>") and code in ids:  # Marian's target language is a single token
            text = text[len(code) :]
            language.append(ids[code])
        tokens = (self.target_pieces if target else self.source_pieces).encode(text, out_type=str)
        unknown, text_ids = ids.get("<unk>", 0), self._text_ids[target]
        return [*language, *(text_ids.get(token, unknown) for token in tokens)]

    def _decode(self, ids: list[int], target: bool) -> str:
        pieces, tokens = (
            (self.target_pieces, self._target_tokens) if target else (self.source_pieces, self._source_tokens)
        )
        text = pieces.decode_pieces([tokens.get(index, "<unk>") for index in ids])
        return text.replace("▁", " ").strip()  # type: ignore[no-any-return]


class JsonTokenizer(Tokenizer):
    """A Hugging Face ``tokenizer.json``; the text frame replaces its post-processor."""

    names = ("tokenizer.json",)

    def __init__(self, files: dict[str, bytes], frame: TextFrame | None = None) -> None:
        try:
            self.fast = FastTokenizer.from_str(files["tokenizer.json"].decode("utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"tokenizer.json: not a tokenizer ({error})") from None
        self.fast.no_truncation()
        self.fast.no_padding()
        self.fast.encode_special_tokens = True  # those that are written in a text are text
        if frame is None:
            raise ModelError(f"{FRAME_FILE} is missing beside tokenizer.json; load this tokenizer through its teacher")
        super().__init__(files, frame)

    @cached_property
    def vocab(self) -> dict[str, int]:
        """See Tokenizer."""
        return self.fast.get_vocab(with_added_tokens=True)

    @cached_property
    def unknown_id(self) -> int | None:
        """Id of unknown characters; None if there is none."""
        model = json.loads(self.files["tokenizer.json"])["model"]
        return self.vocab.get(model["unk_token"]) if model.get("unk_token") else model.get("unk_id")

    @cached_property
    def _control_ids(self) -> frozenset[int]:
        """Ids of special tokens, without that of unknown characters, which text may have."""
        special = {index for index, token in self.fast.get_added_tokens_decoder().items() if token.special}
        return frozenset(special | self._skipped) - {self.unknown_id}

    def _encode(self, text: str, target: bool) -> list[int]:
        encoding = self.fast.encode(text, add_special_tokens=False)
        if self._control_ids.isdisjoint(encoding.ids):
            return encoding.ids
        # A unigram model has special tokens among its pieces: a space inside makes them text.
        pairs = zip(encoding.ids, encoding.offsets, strict=True)
        for start in reversed([start for index, (start, _) in pairs if index in self._control_ids]):
            text = f"{text[: start + 1]} {text[start + 1 :]}"
        ids = self.fast.encode(text, add_special_tokens=False).ids
        return [index for index in ids if index not in self._control_ids]

    def _decode(self, ids: list[int], target: bool) -> str:
        return self.fast.decode(ids, skip_special_tokens=True).strip()


def load_tokenizer(folder: Path, frame: TextFrame | None = None) -> Tokenizer:
    """Loads the tokenizer in a folder.

    Args:
        folder: Folder with the tokenizer's files.
        frame: Used in place of the stored text frame.

    Raises:
        ModelError: the folder has no tokenizer, or a damaged one.
    """
    stored = folder / FRAME_FILE
    if frame is None and stored.exists():
        try:
            frame = TextFrame.model_validate_json(stored.read_text(encoding="utf-8"))
        except ValueError:
            raise ModelError(f"{stored}: damaged; export or save the tokenizer again") from None
    for kind in (SentencePieceTokenizer, JsonTokenizer, VocabularyTokenizer):
        files = {name: (folder / name).read_bytes() for name in kind.names if (folder / name).is_file()}
        if kind.names[0] in files:
            try:
                return kind(files, frame)
            except ModelError as error:
                raise ModelError(f"{folder}: {error}") from None
    raise ModelError(f"{folder}: no tokenizer here (sentencepiece.model, tokenizer.json or vocab.json with .spm files)")


def cut(ids: list[int], limit: int, eos_id: int) -> list[int]:
    """Truncates token ids to ``limit``; EOS and the ids after it (mBART's language id) are not removed."""
    if len(ids) <= limit:
        return ids
    tail = ids[ids.index(eos_id, 1) :] if eos_id in ids[1:] else []
    return ids[: limit - len(tail)] + tail


def _sentencepiece(files: dict[str, bytes], name: str) -> Any:
    """Loads the SentencePiece model in file ``name``. Raises ModelError."""
    if name not in files:
        raise ModelError(f"{name} is missing")
    pieces = sentencepiece.SentencePieceProcessor()
    try:
        pieces.load_from_serialized_proto(files[name])
        if pieces.get_piece_size() > 0:
            return pieces
    except (OSError, RuntimeError):
        pass
    raise ModelError(f"{name}: not a SentencePiece model")


def _log_probability(pieces: Any, text: str) -> float:
    """Returns the sum of the pieces' log probabilities."""
    ids = pieces.encode(text)
    return sum(_UNKNOWN if pieces.is_unknown(i) or pieces.is_byte(i) else pieces.get_score(i) for i in ids)


def _without_control(vocabulary: dict[str, int]) -> dict[str, int]:
    """Returns the vocabulary without control tokens.

    SentencePiece returns a run of unknown characters as it is written, and so a control token where its model has none
    of the characters.
    """
    control = {"<s>", "</s>", "<pad>", *language_tokens(vocabulary)}
    return {token: index for token, index in vocabulary.items() if token not in control}


def _vocabulary(files: dict[str, bytes], name: str) -> dict[str, int]:
    """Parses the token-to-id map in file ``name``. Raises ModelError."""
    try:
        vocabulary = {str(token): int(index) for token, index in json.loads(files[name]).items()}
    except (ValueError, AttributeError, TypeError):
        vocabulary = {}
    if not vocabulary or min(vocabulary.values()) < 0:
        raise ModelError(f"{name}: not a vocabulary (a JSON object of token to id)")
    return vocabulary

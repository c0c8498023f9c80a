"""A teacher's tokenizer cut to some of its tokens: a tokenizer of its own, which segments text with what is left.

A text whose tokens are all left is segmented as before: the best path of a unigram model is among fewer paths, and of
byte pair encoding all the merges stay that the text's tokens are made by. Other texts become shorter pieces.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from compressor.errors import ModelError
from compressor.text.fallback import fallback_ids
from compressor.text.tokenizer import (
    JsonTokenizer,
    SentencePieceTokenizer,
    TextFrame,
    Tokenizer,
    VocabularyTokenizer,
)

UNNAMED = "<token {}>"
"""Name of a token that the teacher's tokenizer has no name for, by its id there: a language of M2M100."""

_ModelProto: Any = sentencepiece_model_pb2.ModelProto  # type: ignore[attr-defined]  # made when it is imported

MergeRank = Callable[[str, str], float | None]
"""Two adjacent symbols -> when byte pair encoding joins them, the smallest first; None: never."""


def subset_tokenizer(tokenizer: Tokenizer, wanted: Iterable[int]) -> Tokenizer:
    """Returns a tokenizer with some of the tokens of another, in the same order, with ids from 0 without a gap.

    Bytes, single characters, special tokens and the text frame's are always among them, and the parts that byte pair
    encoding makes a token of.

    Args:
        tokenizer: the teacher's.
        wanted: ids of tokens.

    Raises:
        ModelError: source and target have separate vocabularies, or this kind of tokenizer cannot be cut.
    """
    if tokenizer.has_separate_vocabularies:
        raise ModelError("source and target have separate vocabularies: only a joint one can be cut to a corpus")
    vocab, frame = tokenizer.vocab, tokenizer.frame
    names = {index: token for token, index in vocab.items()}
    chosen = {*wanted, frame.eos_id, frame.pad_id, *frame.source_prefix_ids, *frame.source_suffix_ids}
    chosen |= fallback_ids(vocab) | _special_ids(tokenizer) | (names.keys() & set(frame.special_ids))
    for rank in _merge_ranks(tokenizer):
        chosen |= {vocab[part] for index in chosen & names.keys() for part in _parts(names[index], rank, vocab)}
    ordered = sorted(chosen, key=lambda index: (index not in names, index))
    return _cut(tokenizer, {theirs: ours for ours, theirs in enumerate(ordered)})


def _special_ids(tokenizer: Tokenizer) -> set[int]:
    """Ids of the tokens that are no piece of text, and of unknown text."""
    match tokenizer:
        case SentencePieceTokenizer(pieces=pieces):
            return {index for index in range(len(pieces)) if pieces.is_control(index) or pieces.is_unknown(index)}
        case VocabularyTokenizer(vocab=vocab, languages=languages):
            return {vocab[token] for token in ("<unk>", *languages) if token in vocab}
        case JsonTokenizer(fast=fast, unknown_id=unknown):
            return {*fast.get_added_tokens_decoder(), *(() if unknown is None else (unknown,))}
    raise ModelError(f"the vocabulary of a {type(tokenizer).__name__} cannot be cut")


def _merge_ranks(tokenizer: Tokenizer) -> list[MergeRank]:
    """Returns the order of merges of each model of the tokenizer that is a byte pair encoding."""
    if isinstance(tokenizer, JsonTokenizer):
        model = json.loads(tokenizer.files["tokenizer.json"])["model"]
        if model["type"] != "BPE":
            return []
        if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
            raise ModelError("byte pair encoding with a prefix or suffix of tokens cannot be cut to a corpus")
        ranks = {pair: rank for rank, pair in enumerate(map(_pair, model["merges"]))}
        return [lambda left, right: ranks.get((left, right))]
    ranks_of = []
    for content in (content for name, content in tokenizer.files.items() if not name.endswith(".json")):
        proto = _ModelProto.FromString(content)
        if proto.trainer_spec.model_type == proto.trainer_spec.BPE:
            ranks_of.append(_ranks_by_score({piece.piece: -piece.score for piece in proto.pieces}))
    return ranks_of


def _ranks_by_score(scores: Mapping[str, float]) -> MergeRank:
    return lambda left, right: scores.get(left + right)


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """Returns the two parts of a merge, which older files write as one text."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _parts(token: str, rank: MergeRank, vocab: Mapping[str, int]) -> set[str]:
    """Returns the tokens that byte pair encoding makes on the way to a token, itself included.

    They are the same inside a word: no merge that crosses the token's ends can have come first.
    """
    symbols, made = list(token), {token}
    while len(symbols) > 1:
        ranks = [(rank(*pair), place) for place, pair in enumerate(pairwise(symbols))]
        possible = [(order, place) for order, place in ranks if order is not None]
        if not possible:
            break
        _, place = min(possible)
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
        made.add(symbols[place])
    return made & vocab.keys()


def _cut(tokenizer: Tokenizer, ids: Mapping[int, int]) -> Tokenizer:
    """Returns a tokenizer with the tokens whose ids are keys of ``ids``; the values are their new ids, in order."""
    frame, files = _renumber(tokenizer.frame, ids), tokenizer.files
    match tokenizer:
        case SentencePieceTokenizer():
            name = tokenizer.names[0]
            _require_names(tokenizer, ids)
            places = set(ids)
            return SentencePieceTokenizer({name: _cut_pieces(files[name], lambda place, _: place in places)}, frame)
        case VocabularyTokenizer(vocab=vocab):
            vocabulary = {token: ids[index] for token, index in vocab.items() if index in ids}
            unnamed = sorted(ids.keys() - set(vocab.values()))
            vocabulary |= {UNNAMED.format(index): ids[index] for index in unnamed}
            pieces = {
                name: _cut_pieces(content, lambda _, piece: piece in vocabulary)
                for name, content in files.items()
                if not name.endswith(".json")
            }
            return VocabularyTokenizer({**pieces, "vocab.json": json.dumps(vocabulary).encode()}, frame)
        case JsonTokenizer():
            _require_names(tokenizer, ids)
            described = _cut_json(json.loads(files["tokenizer.json"]), ids)
            return JsonTokenizer({"tokenizer.json": json.dumps(described, ensure_ascii=False).encode()}, frame)
    raise ModelError(f"the vocabulary of a {type(tokenizer).__name__} cannot be cut")


def _require_names(tokenizer: Tokenizer, ids: Mapping[int, int]) -> None:
    """Raises ModelError if an id has no token."""
    if unnamed := sorted(ids.keys() - set(tokenizer.vocab.values())):
        raise ModelError(f"the teacher's tokenizer has no token of id {unnamed[0]}, so it cannot be cut to a corpus")


def _renumber(frame: TextFrame, ids: Mapping[int, int]) -> TextFrame:
    return frame.model_copy(
        update={
            "eos_id": ids[frame.eos_id],
            "pad_id": ids[frame.pad_id],
            "source_prefix_ids": tuple(ids[index] for index in frame.source_prefix_ids),
            "source_suffix_ids": tuple(ids[index] for index in frame.source_suffix_ids),
            "special_ids": tuple(ids[index] for index in frame.special_ids if index in ids),
        }
    )


def _cut_pieces(model: bytes, stays: Callable[[int, str], bool]) -> bytes:
    """Returns a SentencePiece model without the pieces, by place and text, that do not stay.

    Control pieces, bytes and the unknown piece, which the library requires, stay in any case.
    """
    proto = _ModelProto.FromString(model)
    required = {_ModelProto.SentencePiece.Type.Value(name) for name in _REQUIRED_TYPES}
    pieces = [piece for place, piece in enumerate(proto.pieces) if piece.type in required or stays(place, piece.piece)]
    # Field by field: samples of the whole vocabulary's segmentations, for a test of the file, must not be copied.
    smaller = _ModelProto(pieces=pieces, trainer_spec=proto.trainer_spec, normalizer_spec=proto.normalizer_spec)
    if proto.HasField("denormalizer_spec"):
        smaller.denormalizer_spec.CopyFrom(proto.denormalizer_spec)
    smaller.trainer_spec.vocab_size = len(pieces)
    content: bytes = smaller.SerializeToString(deterministic=True)
    return content


_REQUIRED_TYPES = ("UNKNOWN", "CONTROL", "BYTE")


def _cut_json(described: dict[str, Any], ids: Mapping[int, int]) -> dict[str, Any]:
    """Returns the content of a ``tokenizer.json``; its own frame goes, ``TextFrame`` takes its place."""
    model = dict(described["model"])
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram's: pieces with scores, by id
        model["vocab"] = [piece for index, piece in enumerate(vocabulary) if index in ids]
        model["unk_id"] = ids.get(model["unk_id"])
    else:
        model["vocab"] = {token: ids[index] for token, index in vocabulary.items() if index in ids}
    if "merges" in model:
        left = model["vocab"].keys()
        model["merges"] = [merge for merge in model["merges"] if {*_pair(merge), "".join(_pair(merge))} <= left]
    added = [token | {"id": ids[token["id"]]} for token in described["added_tokens"]]
    return {**described, "model": model, "added_tokens": added, "post_processor": None} | dict.fromkeys(
        ("padding", "truncation")
    )

"""Texts or token ids in, texts or token ids out, through the graph that holds the whole search.

A text's output does not depend on its neighbours in a batch, so texts are sorted by length and cut into batches freely.

Shapes: batch = sentences, source_len and length = tokens.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from compressor.bundle import DECODER_STEP, ENCODER, GENERATE, TOKENIZER_FOLDER, Manifest, open_bundle
from compressor.errors import InputError, TooLongError
from compressor.runtime import streaming
from compressor.runtime.session import open_session
from compressor.tokenizer import Tokenizer, load_tokenizer

Truncation = Literal["error", "longest_first"]


@dataclass(frozen=True)
class Result:
    """One output."""

    text: str
    token_ids: list[int]
    """With the end of sentence, where the model ended it."""
    input_tokens: int
    output_tokens: int
    truncated: bool
    """Whether the source was cut."""
    finish_reason: Literal["eos", "length"]


class Generator:
    """A bundle in one precision, ready to run; may be used from several threads."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        precision: str | None = None,
        intra_threads: int | None = None,
        spinning: bool = True,
    ) -> None:
        self.manifest = manifest
        self.precision = precision or manifest.default_precision
        self.tokenizer: Tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
        self._folder = folder
        self._graphs = manifest.precision(precision).graphs
        self._threads: dict[str, Any] = {"intra_threads": intra_threads, "spinning": spinning}
        self._sessions: dict[str, Any] = {}
        self._lock = threading.Lock()
        self.session(GENERATE)

    @classmethod
    def load(
        cls,
        bundle_dir: Path | str,
        *,
        precision: str | None = None,
        intra_threads: int | None = None,
        expect_digest: str | None = None,
        spinning: bool = True,
    ) -> Generator:
        """Checks a bundle and opens it.

        Args:
            bundle_dir: The bundle's folder.
            precision: ``fp32`` or ``int8``; None takes the smallest.
            intra_threads: Threads inside one operator; None: all cores.
            expect_digest: What the manifest's digest must be.
            spinning: Whether idle threads wait busily; servers that share a machine say no.

        Raises:
            BundleError: everything that is wrong with the bundle.
            InputError: the bundle has no such precision.
            DependencyError: ONNX Runtime is missing, too old, or installed twice.
        """
        if intra_threads is not None and intra_threads < 1:
            raise InputError(f"intra_threads is {intra_threads}: give 1 or more")
        folder = Path(bundle_dir)
        manifest = open_bundle(folder, expect_digest)
        return cls(folder, manifest, precision=precision, intra_threads=intra_threads, spinning=spinning)

    @property
    def task(self) -> str:
        """``translation`` or ``summarization``."""
        return self.manifest.task

    def session(self, graph: str) -> Any:
        """The ONNX Runtime session of a graph, opened when it is first asked for."""
        with self._lock:
            if graph not in self._sessions:
                self._sessions[graph] = open_session(self._folder / self._graphs[graph], **self._threads)
            return self._sessions[graph]

    def generate(
        self,
        texts: Sequence[str],
        *,
        num_beams: int = 1,
        max_new_tokens: int | None = None,
        length_penalty: float | None = None,
        batch_tokens: int = 4096,
        batch_size: int | None = None,
        truncation: Truncation = "error",
    ) -> list[Result]:
        """One result a text, in order. A blank text gives a blank result.

        Args:
            texts: Sources.
            num_beams: This bundle searches greedily: 1.
            max_new_tokens: Longest output, end of sentence included; None is the bundle's default.
            length_penalty: Accepted, and without effect on a greedy search.
            batch_tokens: Most source tokens in a batch, padding included.
            batch_size: Most texts in a batch; None leaves it to ``batch_tokens``.
            truncation: What to do with a source over the limit: refuse it, or cut it (its end of sentence is kept).

        Raises:
            TooLongError: A source is over the limit; says by how much, and which.
            InputError: A text or parameter is outside what the bundle takes.
        """
        if isinstance(texts, str):
            raise InputError("texts is one string: give a list of them")
        sources = [self._encode(number, text, truncation) for number, text in enumerate(texts, 1)]
        filled = [index for index, (ids, _) in enumerate(sources) if ids]
        outputs = self.generate_ids(
            [sources[index][0] for index in filled],
            num_beams=num_beams,
            max_new_tokens=max_new_tokens,
            length_penalty=length_penalty,
            batch_tokens=batch_tokens,
            batch_size=batch_size,
        )
        results = [Result("", [], 0, 0, False, "eos")] * len(sources)
        for index, ids in zip(filled, outputs, strict=True):
            source, cut = sources[index]
            reason = self._finish_reason(ids, self.check_limit(max_new_tokens))
            results[index] = Result(self.tokenizer.decode(ids), ids, len(source), len(ids), cut, reason)
        return results

    def generate_ids(
        self,
        sources: Sequence[Sequence[int]],
        *,
        num_beams: int = 1,
        max_new_tokens: int | None = None,
        length_penalty: float | None = None,
        batch_tokens: int = 4096,
        batch_size: int | None = None,
        truncation: Truncation = "error",
    ) -> list[list[int]]:
        """As ``generate``, on token ids as ``tokenizer.encode_source`` gives them; outputs end with EOS if finished."""
        limit = self.check_limit(max_new_tokens, num_beams)
        if batch_tokens < 1 or (batch_size is not None and batch_size < 1):
            raise InputError("batch_tokens and batch_size: give 1 or more")
        checked = [self._check_ids(number, ids, truncation)[0] for number, ids in enumerate(sources, 1)]
        outputs: list[list[int]] = [[] for _ in checked]
        for batch in batches([len(ids) for ids in checked], batch_tokens, batch_size):
            input_ids, mask = self.pad([checked[index] for index in batch])
            feeds = {"input_ids": input_ids, "attention_mask": mask, "max_new_tokens": np.array(limit, np.int64)}
            (rows,) = self.session(GENERATE).run(["output_ids"], feeds)
            for index, row in zip(batch, rows.tolist(), strict=True):
                outputs[index] = self._until_eos(row)
        return outputs

    def stream(
        self,
        text: str,
        *,
        num_beams: int = 1,
        max_new_tokens: int | None = None,
        length_penalty: float | None = None,
        truncation: Truncation = "error",
    ) -> Iterator[str]:
        """Yields the output piece by piece as it is decoded; the pieces joined are ``generate``'s text.

        Parameters are checked at once, not when the first piece is asked for. Closing the iterator stops the search.
        """
        limit = self.check_limit(max_new_tokens, num_beams)
        source, _ = self._encode(1, text, truncation)
        if not source:
            return iter(())
        encoder, step, generation = self.session(ENCODER), self.session(DECODER_STEP), self.manifest.generation
        feeds = streaming.first_feeds(encoder, step, generation, *self.pad([source]), limit)
        tokens = streaming.greedy_tokens(step, feeds, generation.eos_id, limit)
        return streaming.text_deltas(tokens, self.tokenizer.decode)

    def check_limit(self, max_new_tokens: int | None, num_beams: int = 1) -> int:
        """The output limit of a call. Raises InputError where the bundle cannot do what is asked."""
        if num_beams != 1:
            raise InputError(f"num_beams is {num_beams}: this bundle searches greedily (num_beams 1)")
        limit = self.manifest.generation.max_new_tokens if max_new_tokens is None else max_new_tokens
        most = self.manifest.max_new_tokens
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= most:
            raise InputError(f"max_new_tokens is {limit}: give an integer from 1 to {most}")
        return limit

    def pad(self, sources: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        """Lists of ids -> input_ids and attention_mask, int64 [batch, source_len]."""
        width = max(map(len, sources))
        input_ids = np.full((len(sources), width), self.manifest.generation.pad_id, np.int64)
        mask = np.zeros((len(sources), width), np.int64)
        for row, ids in enumerate(sources):
            input_ids[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        return input_ids, mask

    def _encode(self, number: int, text: str, truncation: Truncation) -> tuple[list[int], bool]:
        """Ids of a text (none if it is blank), and whether they were cut."""
        if not isinstance(text, str):
            raise InputError(f"text {number} is not a string")
        if not text.strip():
            return [], False
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"text {number}: no valid Unicode at character {error.start + 1}") from None
        return self._check_ids(number, self.tokenizer.encode_source(text), truncation)

    def _check_ids(self, number: int, ids: Sequence[int], truncation: Truncation) -> tuple[list[int], bool]:
        source, limit, vocab_size = list(ids), self.manifest.max_source_tokens, self.manifest.vocab_size
        if truncation not in ("error", "longest_first"):
            raise InputError(f"truncation is {truncation!r}: give 'error' or 'longest_first'")
        if not source:
            raise InputError(f"text {number} has no tokens")
        if wrong := [token for token in source if not 0 <= token < vocab_size]:
            raise InputError(f"text {number}: token id {wrong[0]} is outside the vocabulary (0 to {vocab_size - 1})")
        if len(source) <= limit:
            return source, False
        if truncation == "error":
            raise TooLongError(
                f"text {number} has {len(source)} tokens, the limit is {limit}: shorten it, or have it cut "
                "(truncation longest_first)",
                tokens=len(source),
                limit=limit,
            )
        suffix = self.tokenizer.frame.source_suffix_ids
        kept = list(suffix) if suffix and tuple(source[-len(suffix) :]) == tuple(suffix) else []
        return source[: limit - len(kept)] + kept, True

    def _finish_reason(self, ids: list[int], limit: int) -> Literal["eos", "length"]:
        """An end of sentence that is forced at the limit does not count as the model's own."""
        generation = self.manifest.generation
        forced = generation.forced_eos_id is not None and len(ids) >= limit
        return "eos" if ids and ids[-1] == generation.eos_id and not forced else "length"

    def _until_eos(self, row: list[int]) -> list[int]:
        """Tokens up to and with the first EOS, else up to the padding at the end."""
        generation = self.manifest.generation
        if generation.eos_id in row:
            return row[: row.index(generation.eos_id) + 1]
        while row and row[-1] == generation.pad_id:
            row.pop()
        return row


def batches(lengths: Sequence[int], batch_tokens: int, batch_size: int | None) -> Iterator[list[int]]:
    """Indices of sources of like length, longest first, at most ``batch_tokens`` with padding (but at least one)."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        full = batch_size is not None and len(batch) >= batch_size
        if batch and (full or lengths[batch[0]] * (len(batch) + 1) > batch_tokens):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch

"""Texts or token ids in, texts or token ids out, through the graph that holds the whole search.

A text's output does not depend on its neighbours in a batch, so texts are sorted by length and cut into batches freely.

Shapes: batch = sentences, source_len and length = tokens.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack

import numpy as np

from compressor.bundle import (
    DECODER_STEP,
    ENCODER,
    GENERATE,
    GENERATE_BEAMS,
    TOKENIZER_FOLDER,
    Manifest,
    open_bundle,
)
from compressor.errors import InputError, TooLongError
from compressor.generation_config import until_eos
from compressor.runtime import streaming
from compressor.runtime.search_options import Search, SearchOptions, resolve
from compressor.runtime.session import (
    Device,
    open_session,
    probe_device,
    warn_if_slow,
)
from compressor.runtime.threads import choose_threads
from compressor.text.tokenizer import Tokenizer, load_tokenizer

Truncation = Literal["error", "longest_first"]
BATCH_TOKENS = 1024
"""Of sources, padded: activations of larger batches leave the processor's cache (docs/performance.md)."""
Item = TypeVar("Item")
Done = TypeVar("Done")


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
    score: float | None = None
    """Log-probability divided by length to the length penalty; of beam search alone."""
    alternatives: tuple[Alternative, ...] = ()
    """The next best outputs, if more than one was asked for."""


@dataclass(frozen=True)
class Alternative:
    """Another output of the same source."""

    text: str
    token_ids: list[int]
    score: float


@dataclass(frozen=True)
class Hypothesis:
    """Token ids of an output, and its score (None: greedy search gives none)."""

    token_ids: list[int]
    score: float | None


class Generator:
    """A bundle in one precision, ready to run; may be used from several threads."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        precision: str | None = None,
        intra_threads: int | None = None,
        inter_threads: int | None = 1,
        spinning: bool = True,
        device: Device = "cpu",
        num_beams: int = 1,
    ) -> None:
        self.manifest = manifest
        intra, self.inter_threads = choose_threads(intra_threads, inter_threads)
        self.precision = precision or manifest.default_precision
        self.tokenizer: Tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
        self._folder = folder
        self._graphs = manifest.precision(precision).graphs
        self._session_options: dict[str, Any] = {"intra_threads": intra, "spinning": spinning, "device": device}
        self._sessions: dict[str, Any] = {}
        self._lock = threading.Lock()
        self.session(GENERATE if num_beams == 1 else GENERATE_BEAMS)

    @classmethod
    def load(
        cls,
        bundle_dir: Path | str,
        *,
        precision: str | None = None,
        intra_threads: int | None = None,
        inter_threads: int | None = None,
        expect_digest: str | None = None,
        spinning: bool = True,
        device: Device = "cpu",
        num_beams: int = 1,
    ) -> Generator:
        """Checks a bundle and opens it.

        Args:
            bundle_dir: The bundle's folder.
            precision: One that the bundle has; None takes the one for the device (``bundle.DEFAULTS``).
            intra_threads: Threads inside one operator; None: the processors that this process may use, divided among
                the batches that run at a time.
            inter_threads: Batches of one call that run at a time; None: as many as there are processors for.
            expect_digest: What the manifest's digest must be.
            spinning: Whether idle threads wait busily; servers that share a machine say no.
            device: ``cpu`` or ``cuda``.
            num_beams: Of most calls: the graph of that search is opened now, greedy or beams, the other when it is
                first asked for, since each holds weights of its own.

        Raises:
            BundleError: everything that is wrong with the bundle.
            InputError: the bundle has no such precision.
            DependencyError: ONNX Runtime is missing, too old, or installed twice, or cannot use the device.
        """
        if intra_threads is not None and intra_threads < 1:
            message = f"{{intra_threads}} is {intra_threads}: give 1 or more"
            raise InputError(message, option="intra_threads", actual=intra_threads)
        if inter_threads is not None and inter_threads < 1:
            message = f"{{inter_threads}} is {inter_threads}: give 1 or more"
            raise InputError(message, option="inter_threads", actual=inter_threads)
        folder = Path(bundle_dir)
        probe_device(device)
        manifest = open_bundle(folder, expect_digest)
        precision = precision or manifest.default_for(device)
        warn_if_slow(precision, device)
        return cls(
            folder,
            manifest,
            precision=precision,
            intra_threads=intra_threads,
            inter_threads=inter_threads,
            spinning=spinning,
            device=device,
            num_beams=num_beams,
        )

    @property
    def task(self) -> str:
        """``translation`` or ``summarization``."""
        return self.manifest.task

    def session(self, graph: str) -> Any:
        """The ONNX Runtime session of a graph, opened when it is first asked for."""
        with self._lock:
            if graph not in self._sessions:
                self._sessions[graph] = open_session(self._folder / self._graphs[graph], **self._session_options)
            return self._sessions[graph]

    def generate(
        self,
        texts: Sequence[str],
        *,
        num_return_sequences: int = 1,
        batch_tokens: int = BATCH_TOKENS,
        batch_size: int | None = None,
        truncation: Truncation = "error",
        **search: Unpack[SearchOptions],
    ) -> list[Result]:
        """One result a text, in order. A blank text gives a blank result.

        Args:
            texts: Sources.
            num_return_sequences: Outputs a text, at most one a beam; all but the best are its ``alternatives``.
            batch_tokens: Most source tokens in a batch, padding included.
            batch_size: Most texts in a batch; None leaves it to ``batch_tokens``.
            truncation: What to do with a source over the limit: refuse it, or cut it (its end of sentence is kept).
            **search: ``num_beams`` and the other options of a search.

        Raises:
            TooLongError: Sources are over the limit; has the index and length of each.
            InputError: A text or parameter is outside what the bundle takes.
        """
        if isinstance(texts, str):
            raise InputError("{texts} is one string: give a list of them", option="texts")
        limit = resolve(self.manifest, search).max_new_tokens
        sources = self._cut_all([self._encode(index, text) for index, text in enumerate(texts)], truncation)
        filled = [index for index, (ids, _) in enumerate(sources) if ids]
        found = self.search_ids(
            [sources[index][0] for index in filled],
            num_return_sequences=num_return_sequences,
            batch_tokens=batch_tokens,
            batch_size=batch_size,
            **search,
        )
        results = [Result("", [], 0, 0, False, "eos")] * len(sources)
        for index, hypotheses in zip(filled, found, strict=True):
            source, cut = sources[index]
            best, *others = hypotheses
            ids = best.token_ids
            results[index] = Result(
                text=self.tokenizer.decode(ids),
                token_ids=ids,
                input_tokens=len(source),
                output_tokens=len(ids),
                truncated=cut,
                finish_reason=self._finish_reason(ids, limit),
                score=best.score,
                alternatives=tuple(
                    Alternative(self.tokenizer.decode(other.token_ids), other.token_ids, other.score)
                    for other in others
                    if other.score is not None
                ),
            )
        return results

    def generate_ids(self, sources: Sequence[Sequence[int]], **options: Any) -> list[list[int]]:
        """The best output of each source; see ``search_ids``."""
        return [found[0].token_ids for found in self.search_ids(sources, **options)]

    def search_ids(
        self,
        sources: Sequence[Sequence[int]],
        *,
        prefixes: Sequence[Sequence[int]] | None = None,
        num_return_sequences: int = 1,
        batch_tokens: int = BATCH_TOKENS,
        batch_size: int | None = None,
        truncation: Truncation = "error",
        **search: Unpack[SearchOptions],
    ) -> list[list[Hypothesis]]:
        """As ``generate``, on token ids as ``tokenizer.encode_source`` gives them; outputs end with EOS if finished.

        Args:
            sources: Token ids.
            prefixes: Token ids that each output must begin with.
            num_return_sequences: Outputs a source, best first.
            batch_tokens, batch_size, truncation, search: See ``generate``.
        """
        settings = resolve(self.manifest, search)
        for name, value in (("batch_tokens", batch_tokens), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise InputError(f"{{{name}}} is {value}: give 1 or more", option=name, actual=value)
        if not 1 <= num_return_sequences <= settings.num_beams:
            raise InputError(
                f"{{num_return_sequences}} is {num_return_sequences}: give 1 to {{num_beams}}, "
                f"which is {settings.num_beams}",
                option="num_return_sequences",
                actual=num_return_sequences,
                limit=settings.num_beams,
                options=["num_beams"],
            )
        valid = [self._check_ids(index, ids) for index, ids in enumerate(sources)]
        checked = [ids for ids, _ in self._cut_all(valid, truncation)]
        begun = self._check_prefixes(prefixes, len(checked), settings.max_new_tokens)
        work: list[list[int]] = []
        for group in _same_length(begun):
            share = math.ceil(len(group) / self.inter_threads)
            cut = batches([len(checked[index]) for index in group], batch_tokens, min(batch_size or share, share))
            work += [[group[index] for index in batch] for batch in cut]

        def run(rows: list[int]) -> list[list[Hypothesis]]:
            return self._run([checked[row] for row in rows], [begun[row] for row in rows], settings)

        outputs: list[list[Hypothesis]] = [[] for _ in checked]
        for rows, found in zip(work, self._map(run, work), strict=True):
            for row, hypotheses in zip(rows, found, strict=True):
                outputs[row] = hypotheses[:num_return_sequences]
        return outputs

    def _map(self, run: Callable[[Item], Done], work: Sequence[Item]) -> Iterator[Done]:
        """Results in order, ``inter_threads`` at a time."""
        if min(self.inter_threads, len(work)) <= 1:
            yield from map(run, work)
            return
        with ThreadPoolExecutor(self.inter_threads, thread_name_prefix="batch") as pool:
            yield from pool.map(run, work)

    def _run(
        self, sources: list[Sequence[int]], prefixes: list[Sequence[int]], settings: Search
    ) -> list[list[Hypothesis]]:
        """All outputs of a batch, best first; prefixes are of one length."""
        input_ids, mask = self.pad(sources)
        begun = np.array(prefixes, np.int64).reshape(len(sources), -1)
        feeds = {"input_ids": input_ids, "attention_mask": mask, **settings.feeds(begun)}
        eos, pad = self.manifest.generation.eos_id, self.manifest.generation.pad_id
        if settings.num_beams == 1:
            (ids,) = self.session(GENERATE).run(["output_ids"], feeds)
            return [[Hypothesis(until_eos(row, eos, pad), None)] for row in ids.tolist()]
        ids, scores = self.session(GENERATE_BEAMS).run(["output_ids", "scores"], feeds)
        return [
            [Hypothesis(until_eos(row, eos, pad), score) for row, score in zip(*found, strict=True)]
            for found in zip(ids.tolist(), scores.tolist(), strict=True)
        ]

    def stream(self, text: str, *, truncation: Truncation = "error", **search: Unpack[SearchOptions]) -> Iterator[str]:
        """Yields the output piece by piece as it is decoded; the pieces joined are ``generate``'s text.

        Beams decide at their end: with more than one there is one piece. Parameters are checked at once, not when the
        first piece is asked for. Closing the iterator stops the search.
        """
        settings = resolve(self.manifest, search)
        ((source, _),) = self._cut_all([self._encode(0, text)], truncation)
        if not source:
            return iter(())
        if settings.num_beams > 1:
            return (result.text for result in self.generate([text], truncation=truncation, **search))
        encoder, step = self.session(ENCODER), self.session(DECODER_STEP)
        feeds = streaming.first_feeds(encoder, step, *self.pad([source]), settings.feeds(np.zeros((1, 0), np.int64)))
        return streaming.text_deltas(
            streaming.greedy_tokens(step, feeds, settings.max_new_tokens), self.tokenizer.decode
        )

    def _check_prefixes(self, prefixes: Sequence[Sequence[int]] | None, count: int, limit: int) -> list[Sequence[int]]:
        """One prefix a source, within the vocabulary and the limit."""
        begun: list[Sequence[int]] = [[]] * count if prefixes is None else list(prefixes)
        if len(begun) != count:
            message = f"there are {count} sources and {len(begun)} prefixes: give one a source"
            raise InputError(message, option="prefixes", actual=len(begun), limit=count)
        rules, vocab_size = self.manifest.generation, self.manifest.vocab_size
        for number, ids in enumerate(begun, 1):
            if wrong := [token for token in ids if not 0 <= token < vocab_size or token == rules.eos_id]:
                message = f"prefix {number}: token id {wrong[0]} is no token of an output that goes on"
                raise InputError(message, option="prefixes", actual=wrong[0])
            if len(ids) >= limit:
                raise InputError(
                    f"prefix {number} has {len(ids)} tokens, and {{max_new_tokens}} is {limit}: it must be longer",
                    option="prefixes",
                    actual=len(ids),
                    limit=limit,
                    options=["max_new_tokens"],
                )
        return begun

    def pad(self, sources: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        """Lists of ids -> input_ids and attention_mask, int64 [batch, source_len]."""
        width = max(map(len, sources))
        input_ids = np.full((len(sources), width), self.manifest.generation.pad_id, np.int64)
        mask = np.zeros((len(sources), width), np.int64)
        for row, ids in enumerate(sources):
            input_ids[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        return input_ids, mask

    def _encode(self, index: int, text: str) -> list[int]:
        """Token ids of a text, none if it is blank.

        Raises:
            InputError: it is no string, no valid Unicode, or encodes to ids outside the vocabulary.
        """
        if not isinstance(text, str):
            raise InputError("{text} is not a string", index=index)
        if not text.strip():
            return []
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"{{text}}: no valid Unicode at character {error.start + 1}", index=index) from None
        return self._check_ids(index, self.tokenizer.encode_source(text))

    def _check_ids(self, index: int, ids: Sequence[int]) -> list[int]:
        """The ids of a source. Raises InputError if there are none or one is outside the vocabulary."""
        source, vocab_size = list(ids), self.manifest.vocab_size
        if not source:
            raise InputError("{text} has no tokens", index=index)
        if wrong := [token for token in source if not 0 <= token < vocab_size]:
            message = f"{{text}}: token id {wrong[0]} is outside the vocabulary (0 to {vocab_size - 1})"
            raise InputError(message, index=index, actual=wrong[0], limit=vocab_size - 1)
        return source

    def _cut_all(self, sources: Sequence[list[int]], truncation: Truncation) -> list[tuple[list[int], bool]]:
        """Sources within the model's limit, each with whether it was cut; the tokenizer's suffix is kept.

        Raises:
            InputError: ``truncation`` is unknown.
            TooLongError: it is ``error``, and sources are longer; has the index and length of each.
        """
        if truncation not in ("error", "longest_first"):
            message = f"{{truncation}} is {truncation!r}: give 'error' or 'longest_first'"
            raise InputError(message, option="truncation", actual=truncation)
        limit = self.manifest.max_source_tokens
        too_long = [(index, len(ids)) for index, ids in enumerate(sources) if len(ids) > limit]
        if too_long and truncation == "error":
            raise TooLongError(too_long, limit)
        return [(ids, False) if len(ids) <= limit else (self._cut(ids), True) for ids in sources]

    def _cut(self, ids: list[int]) -> list[int]:
        """The first tokens of a source that is over the limit, and the suffix if it ends with that."""
        limit, suffix = self.manifest.max_source_tokens, list(self.tokenizer.frame.source_suffix_ids)
        ending = suffix if suffix and ids[-len(suffix) :] == suffix else []
        return ids[: limit - len(ending)] + ending

    def _finish_reason(self, ids: list[int], limit: int) -> Literal["eos", "length"]:
        """An end of sentence that is forced at the limit does not count as the model's own."""
        generation = self.manifest.generation
        forced = generation.forced_eos_id is not None and len(ids) >= limit
        return "eos" if ids and ids[-1] == generation.eos_id and not forced else "length"


def _same_length(items: Sequence[Sequence[int]]) -> list[list[int]]:
    """Indices in groups of equal length."""
    groups: dict[int, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(len(item), []).append(index)
    return list(groups.values())


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

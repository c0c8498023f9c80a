"""Generates outputs of texts or token ids with the graphs of a bundle, which contain the whole search.

A text's output does not depend on its batch, so texts are sorted by length before they are batched.

Shapes: batch = sentences, source_len and length = tokens.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, Unpack

import numpy as np

from compressor.batching import bucket_by_length, pad
from compressor.bundle import (
    DECODER_STEP,
    ENCODER,
    GENERATE,
    GENERATE_BEAMS,
    TOKENIZER_FOLDER,
    Manifest,
    open_bundle,
)
from compressor.errors import InputError
from compressor.generation_config import until_eos
from compressor.runtime import streaming
from compressor.runtime.documents import Document, DocumentStream, Overlong, Split, default_split, prepare
from compressor.runtime.results import Alternative, FinishReason, Result, ScoredTokens
from compressor.runtime.search_options import Search, SearchOptions, resolve
from compressor.runtime.session import Device, open_session, probe_device, run_options, warn_if_slow
from compressor.runtime.sources import Source, SourceEncoder, Truncation
from compressor.runtime.threads import choose_threads
from compressor.text.guards import cut_loop, until_loop
from compressor.text.letter_case import LetterCase
from compressor.text.tokenizer import Tokenizer, load_tokenizer

BATCH_TOKENS = 1024
"""Padded source tokens of a batch; activations of larger batches do not fit the CPU cache (docs/performance.md)."""
Item = TypeVar("Item")
Done = TypeVar("Done")


class Generator:
    """Runs a bundle in one precision; methods may be called from several threads."""

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
        self.letter_case = LetterCase(manifest.recased, self.tokenizer.log_probability, manifest.source_language)
        self._encoder = SourceEncoder(self.tokenizer, manifest)
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
            precision: A precision of the bundle; None: the default of the device (``bundle.DEFAULTS``).
            intra_threads: Threads inside one operator; None: the processors of this process, divided among the batches
                that run at the same time.
            inter_threads: Batches of one call that run at the same time; None: one for each processor.
            expect_digest: Required SHA-256 of the manifest.
            spinning: Whether idle threads wait in a busy loop; use False on a shared machine.
            device: ``cpu`` or ``cuda``.
            num_beams: Beams of most calls. The graph of that search is opened now, the other one at its first call,
                because each session has its own copy of the weights.

        Raises:
            BundleError: the bundle is incomplete, altered or of another format version.
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
        manifest.precision(precision)  # an error comes before a warning about a precision that is not there
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
        """Returns the ONNX Runtime session of a graph, opened at the first call."""
        with self._lock:
            if graph not in self._sessions:
                self._sessions[graph] = open_session(self._folder / self._graphs[graph], **self._session_options)
            return self._sessions[graph]

    def generate(
        self,
        texts: Sequence[str],
        *,
        split: Split | None = None,
        num_return_sequences: int = 1,
        batch_tokens: int = BATCH_TOKENS,
        batch_size: int | None = None,
        truncation: Overlong | None = None,
        **search: Unpack[SearchOptions],
    ) -> list[Result]:
        """Returns one result for each text, in order. The result of a blank text is blank.

        Args:
            texts: Sources, of any length.
            split: ``sentences``: each sentence is a source of its own, and the outputs are put together with the line
                breaks, indentation, list markers and untranslatable parts of the text. ``none``: the model reads the
                text whole. None: ``sentences`` for translation, ``none`` for summarization.
            num_return_sequences: Outputs of each sentence, at most ``num_beams``; all but the best are
                ``alternatives``.
            batch_tokens: Maximum number of padded source tokens in a batch.
            batch_size: Maximum number of sentences in a batch; None: only ``batch_tokens`` limits it.
            truncation: Treatment of a sentence over the limit: an error; ``longest_first``, a cut that preserves its
                EOS; or ``split``, translation in parts that end at clause boundaries. None: the bundle's.
            **search: ``num_beams`` and the other options of a search.

        Raises:
            TooLongError: Sentences are over the limit; has the index of each text and the length.
            InputError: A text or option is outside the bundle's limits.
        """
        if isinstance(texts, str):
            raise InputError("{texts} is one string: give a list of them", option="texts")
        settings = resolve(self.manifest, search, len(texts))
        documents = self.prepare(texts, split, truncation)
        sources = [source for one in documents for source in one.sources]
        owners = [index for index, one in enumerate(documents) for _ in one.sources]
        settings = settings.select(owners).for_sources(self.manifest, [source.token_ids for source in sources])
        outputs = self._search(
            [source.token_ids for source in sources],
            [[] for _ in sources],
            settings,
            num_return_sequences=num_return_sequences,
            batch_tokens=batch_tokens,
            batch_size=batch_size,
        )
        results = map(self._result, sources, outputs, settings.max_new_tokens)
        return [one.result(list(islice(results, len(one.sources)))) for one in documents]

    def prepare(
        self, texts: Sequence[str], split: Split | None = None, truncation: Overlong | None = None
    ) -> list[Document]:
        """Returns the sentences of each text as the model reads them. Arguments and errors as in ``generate``."""
        return prepare(
            texts,
            encode=self.encode,
            letter_case=self.letter_case,
            split=split or default_split(self.task),
            truncation=truncation or self.manifest.truncation,
            source_language=self.manifest.source_language,
            target_language=self.manifest.target_language,
        )

    def generate_ids(self, sources: Sequence[Sequence[int]], **options: Any) -> list[list[int]]:
        """Returns the best output of each source; see ``search_ids``."""
        return [hypotheses[0].token_ids for hypotheses in self.search_ids(sources, **options)]

    def encode(self, texts: Sequence[str], truncation: Truncation | None = None) -> list[Source]:
        """Returns the token ids of each text, for ``search_ids`` and ``stream_ids``. Raises as ``generate``."""
        return self._encoder.encode(texts, truncation)

    def search_ids(
        self,
        sources: Sequence[Sequence[int]],
        *,
        prefixes: Sequence[Sequence[int]] | None = None,
        num_return_sequences: int = 1,
        batch_tokens: int = BATCH_TOKENS,
        batch_size: int | None = None,
        truncation: Truncation | None = None,
        **search: Unpack[SearchOptions],
    ) -> list[list[ScoredTokens]]:
        """Returns scored outputs of token ids from ``encode``, best first; finished outputs end with EOS.

        Loops are not cut out of them: ``compressor.text.guards.cut_loop`` does that.

        Args:
            sources: Token ids.
            prefixes: Token ids that each output must begin with.
            num_return_sequences: Outputs a source, best first.
            batch_tokens, batch_size, truncation, search: See ``generate``.
        """
        settings = resolve(self.manifest, search, len(sources))
        checked = [source.token_ids for source in self._encoder.check(sources, truncation)]
        settings = settings.for_sources(self.manifest, checked)
        return self._search(
            checked,
            self._encoder.check_prefixes(prefixes, settings.max_new_tokens),
            settings,
            num_return_sequences=num_return_sequences,
            batch_tokens=batch_tokens,
            batch_size=batch_size,
        )

    def _search(
        self,
        sources: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]],
        settings: Search,
        *,
        num_return_sequences: int,
        batch_tokens: int,
        batch_size: int | None,
    ) -> list[list[ScoredTokens]]:
        """Returns the outputs of checked sources; a batch has similar source lengths. Raises InputError for options."""
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
        work: list[list[int]] = []
        for group in _same_length(prefixes):
            share = math.ceil(len(group) / self.inter_threads)
            batches = bucket_by_length(
                [len(sources[index]) for index in group], batch_tokens, min(batch_size or share, share)
            )
            work += [[group[index] for index in batch] for batch in batches]

        def run(rows: list[int]) -> list[list[ScoredTokens]]:
            return self._run([sources[row] for row in rows], [prefixes[row] for row in rows], settings.select(rows))

        outputs: list[list[ScoredTokens]] = [[] for _ in sources]
        for rows, hypotheses in zip(work, self._map(run, work), strict=True):
            for row, best in zip(rows, hypotheses, strict=True):
                outputs[row] = best[:num_return_sequences]
        return outputs

    def _map(self, run: Callable[[Item], Done], work: Sequence[Item]) -> Iterator[Done]:
        """Yields results in order; ``inter_threads`` run at the same time."""
        if min(self.inter_threads, len(work)) <= 1:
            yield from map(run, work)
            return
        with ThreadPoolExecutor(self.inter_threads, thread_name_prefix="batch") as pool:
            yield from pool.map(run, work)

    def _run(
        self, sources: list[Sequence[int]], prefixes: list[Sequence[int]], settings: Search
    ) -> list[list[ScoredTokens]]:
        """Returns all outputs of a batch, best first; prefixes have equal length."""
        input_ids, mask = self.source_feeds(sources)
        prefix_ids = np.array(prefixes, np.int64).reshape(len(sources), -1)
        feeds = {"input_ids": input_ids, "attention_mask": mask, **settings.feeds(prefix_ids)}
        eos, pad = self.manifest.generation.eos_id, self.manifest.generation.pad_id
        options = run_options(input_ids.size * settings.num_beams)
        if settings.num_beams == 1:
            (ids,) = self.session(GENERATE).run(["output_ids"], feeds, options)
            return [[ScoredTokens(until_eos(row, eos, pad), None)] for row in ids.tolist()]
        ids, scores = self.session(GENERATE_BEAMS).run(["output_ids", "scores"], feeds, options)
        return [
            [ScoredTokens(until_eos(row, eos, pad), score) for row, score in zip(*hypotheses, strict=True)]
            for hypotheses in zip(ids.tolist(), scores.tolist(), strict=True)
        ]

    def stream(
        self,
        text: str,
        *,
        split: Split | None = None,
        truncation: Overlong | None = None,
        **search: Unpack[SearchOptions],
    ) -> Iterator[str]:
        """Returns an iterator over pieces of the output; the joined pieces equal the text of ``generate``.

        Sentence follows sentence. Beam search yields a piece at the end of each. Arguments are checked in this call,
        not at the first piece. Closing the iterator stops the search.
        """
        settings = resolve(self.manifest, search, 1)
        (document,) = self.prepare([text], split, truncation)
        return self._stream_document(document, settings)

    def _stream_document(self, document: Document, settings: Search) -> Iterator[str]:
        pieces = DocumentStream(document)
        yield from filter(None, [pieces.opening()])
        for index, source in enumerate(document.sources):
            for delta in self._stream(source.token_ids, settings):
                yield from filter(None, [pieces.piece(index, delta)])
            yield from filter(None, [pieces.end(index)])

    def stream_ids(self, source: Sequence[int], **search: Unpack[SearchOptions]) -> streaming.Deltas:
        """Returns an iterator as ``stream``, for token ids from ``encode``; it returns the token ids of the output."""
        settings = resolve(self.manifest, search, 1)
        return self._stream(self._encoder.check([source], "error")[0].token_ids, settings)

    def _stream(self, source: list[int], settings: Search) -> streaming.Deltas:
        settings = settings.for_sources(self.manifest, [source])
        if settings.num_beams > 1:
            ((best, *_),) = self._run([source], [[]], settings)
            yield self.tokenizer.decode(ids := cut_loop(best.token_ids, source))
            return ids
        encoder, step = self.session(ENCODER), self.session(DECODER_STEP)
        options = settings.feeds(np.zeros((1, 0), np.int64))
        feeds = streaming.first_feeds(encoder, step, *self.source_feeds([source]), options)
        tokens = streaming.greedy_tokens(step, feeds, settings.max_new_tokens[0])
        return (yield from streaming.text_deltas(until_loop(tokens, source), self.tokenizer.decode))

    def source_feeds(self, sources: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        """Returns ``input_ids`` and ``attention_mask``, int64 [batch, source_len], of lists of ids."""
        input_ids, mask = pad(sources, self.manifest.generation.pad_id)
        return input_ids, mask.astype(np.int64)

    def _result(self, source: Source, hypotheses: list[ScoredTokens], limit: int) -> Result:
        """Returns the result of a sentence from its ids and outputs; ``limit`` is its ``max_new_tokens``."""
        best, *rest = [replace(one, token_ids=cut_loop(one.token_ids, source.token_ids)) for one in hypotheses]
        ids = best.token_ids
        return Result(
            text=self.tokenizer.decode(ids),
            token_ids=ids,
            input_tokens=len(source.token_ids),
            output_tokens=len(ids),
            truncated=source.truncated,
            finish_reason=self.finish_reason(ids, limit),
            score=best.score,
            alternatives=tuple(
                Alternative(self.tokenizer.decode(other.token_ids), other.token_ids, other.score)
                for other in rest
                if other.score is not None
            ),
        )

    def finish_reason(self, ids: list[int], limit: int) -> FinishReason:
        """Returns why an output ended, after ``cut_loop``; an EOS that is forced at the limit counts as ``length``.

        A search ends with EOS or at the limit, so an output that is shorter and has no EOS was cut at a loop.
        """
        generation = self.manifest.generation
        if len(ids) < limit:
            return "eos" if ids and ids[-1] == generation.eos_id else "repetition"
        return "eos" if ids[-1] == generation.eos_id and generation.forced_eos_id is None else "length"


def _same_length(items: Sequence[Sequence[int]]) -> list[list[int]]:
    """Returns the indices of the items in groups of equal length."""
    groups: dict[int, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(len(item), []).append(index)
    return list(groups.values())

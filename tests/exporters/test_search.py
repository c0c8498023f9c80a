"""The search step against Hugging Face's own logits processors."""

from __future__ import annotations

import pytest
import torch
from transformers.generation import logits_process as hf

from compressor.errors import ExportError
from compressor.exporters.search import GreedySearch
from compressor.generation import GenerationConfig

VOCAB = 12
RULES = {
    "none": {},
    "suppressed": {"suppressed_ids": (3, 4)},
    "begin": {"begin_suppressed_ids": (5, 6)},
    "forced first": {"forced_bos_id": 8, "begin_suppressed_ids": (5, 6)},
    "forced last": {"forced_eos_id": 1},
    "shortest": {"min_new_tokens": 3},
    "all": {
        "suppressed_ids": (3, 4),
        "begin_suppressed_ids": (5, 6),
        "forced_bos_id": 8,
        "forced_eos_id": 1,
        "min_new_tokens": 2,
    },
}


def config(**rules: object) -> GenerationConfig:
    return GenerationConfig.model_validate({"start_id": 0, "eos_id": 1, "pad_id": 0, **rules})


def hugging_face(generation: GenerationConfig, limit: int) -> hf.LogitsProcessorList:
    """The processors in generate's order; positions count the start token."""
    processors = hf.LogitsProcessorList()
    if generation.min_new_tokens:
        processors.append(hf.MinNewTokensLengthLogitsProcessor(1, generation.min_new_tokens, generation.eos_id))
    if generation.forced_bos_id is not None:
        processors.append(hf.ForcedBOSTokenLogitsProcessor(generation.forced_bos_id))
    if generation.forced_eos_id is not None:
        processors.append(hf.ForcedEOSTokenLogitsProcessor(limit + 1, generation.forced_eos_id))
    if generation.suppressed_ids:
        processors.append(hf.SuppressTokensLogitsProcessor(list(generation.suppressed_ids)))
    if generation.begin_suppressed_ids:
        begin = 1 if generation.forced_bos_id is None else 2
        processors.append(hf.SuppressTokensAtBeginLogitsProcessor(list(generation.begin_suppressed_ids), begin))
    return processors


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES.keys())
def test_tokens_are_those_of_hugging_face(rules: dict[str, object]) -> None:
    generation, limit, batch = config(**rules), 5, 64
    search, processors = GreedySearch(generation, VOCAB), hugging_face(generation, limit)
    generator = torch.Generator().manual_seed(1)
    so_far = torch.zeros(batch, 1, dtype=torch.int64)
    for step in range(limit):
        logits = torch.randn(batch, VOCAB, generator=generator)
        expected = processors(so_far, logits.clone()).argmax(dim=-1)
        token, _, _ = search(logits, torch.tensor(step), torch.tensor(limit), torch.zeros(batch, dtype=torch.bool))
        assert token.tolist() == expected.tolist(), step
        so_far = torch.cat([so_far, expected[:, None]], dim=1)


def test_a_finished_sentence_is_padded_and_stays_finished() -> None:
    search = GreedySearch(config(), 4)
    logits = torch.tensor([[0.0, 0, 0, 9], [0.0, 0, 0, 9], [0.0, 9, 0, 0]])
    token, finished, unfinished = search(logits, torch.tensor(2), torch.tensor(9), torch.tensor([True, False, False]))
    assert token.tolist() == [0, 3, 1]
    assert finished.tolist() == [True, False, True]
    assert unfinished.item() is True
    assert search(logits, torch.tensor(2), torch.tensor(9), torch.tensor([True, True, False]))[2].item() is False


def test_blocked_ngrams_are_refused() -> None:
    with pytest.raises(ExportError, match=r"no_repeat_ngram_size is 3.*no_repeat_ngram_size=0"):
        GreedySearch(config(no_repeat_ngram_size=3), VOCAB)


def test_beams_and_length_penalty_do_not_matter() -> None:
    GreedySearch(config(num_beams=5, length_penalty=0.6), VOCAB)

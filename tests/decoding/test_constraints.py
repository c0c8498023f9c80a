"""The rules of a search against Hugging Face's own logits processors."""

from __future__ import annotations

import pytest
import torch
from transformers.generation import logits_process as hf

from compressor.decoding.constraints import search_options
from compressor.decoding.greedy import Greedy, GreedySearch
from compressor.generation_config import GenerationConfig

VOCAB = 12
RULES = {
    "none": {},
    "suppressed": {"suppressed_ids": (3, 4)},
    "begin": {"begin_suppressed_ids": (5, 6)},
    "forced first": {"forced_bos_id": 8, "begin_suppressed_ids": (5, 6)},
    "forced last": {"forced_eos_id": 1},
    "shortest": {"min_new_tokens": 3},
    "blocked unigrams": {"no_repeat_ngram_size": 1},
    "blocked bigrams": {"no_repeat_ngram_size": 2},
    "blocked trigrams": {"no_repeat_ngram_size": 3},
    "all": {
        "no_repeat_ngram_size": 2,
        "suppressed_ids": (3, 4),
        "begin_suppressed_ids": (5, 6),
        "forced_bos_id": 8,
        "forced_eos_id": 1,
        "min_new_tokens": 2,
    },
}


def config(**rules: object) -> GenerationConfig:
    return GenerationConfig.model_validate({"start_id": 0, "eos_id": 1, "pad_id": 0, **rules})


def hugging_face(generation: GenerationConfig, limit: int, prompt: int) -> hf.LogitsProcessorList:
    """The processors in generate's order; ``prompt`` counts the start token and the prefix."""
    processors = hf.LogitsProcessorList()
    if generation.no_repeat_ngram_size:
        processors.append(hf.NoRepeatNGramLogitsProcessor(generation.no_repeat_ngram_size))
    if generation.min_new_tokens:
        processors.append(hf.MinNewTokensLengthLogitsProcessor(prompt, generation.min_new_tokens, generation.eos_id))
    if generation.forced_bos_id is not None:
        processors.append(hf.ForcedBOSTokenLogitsProcessor(generation.forced_bos_id))
    if generation.forced_eos_id is not None:
        processors.append(hf.ForcedEOSTokenLogitsProcessor(limit + 1, generation.forced_eos_id))
    if generation.suppressed_ids:
        processors.append(hf.SuppressTokensLogitsProcessor(list(generation.suppressed_ids)))
    if generation.begin_suppressed_ids:
        begin = 1 if prompt > 1 or generation.forced_bos_id is None else 2
        begin = prompt if prompt > 1 else begin
        processors.append(hf.SuppressTokensAtBeginLogitsProcessor(list(generation.begin_suppressed_ids), begin))
    return processors


@pytest.mark.parametrize("prefix_len", [0, 2])
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES.keys())
def test_constrained_tokens_match_transformers(rules: dict[str, object], prefix_len: int) -> None:
    generation, limit, batch = config(**rules), 7, 64
    search, processors = GreedySearch(generation, VOCAB), hugging_face(generation, limit, 1 + prefix_len)
    generator = torch.Generator().manual_seed(1)
    prefix = torch.randint(2, 5, (batch, prefix_len), generator=generator)
    options = search_options(generation, batch, limit, prefix)
    so_far, alive = torch.zeros(batch, 1, dtype=torch.int64), torch.ones(batch, dtype=torch.bool)
    for step in range(limit):
        logits = torch.randn(batch, VOCAB, generator=generator)
        given = step < prefix_len
        expected = prefix[:, step] if given else processors(so_far, logits.clone()).argmax(dim=-1)
        state = search(logits, Greedy(so_far, alive), torch.tensor(step), options)
        assert state.sequences[:, -1].tolist() == expected.tolist(), step
        so_far = torch.cat([so_far, expected[:, None]], dim=1)


def test_a_finished_sentence_is_padded_and_stays_finished() -> None:
    generation = config()
    search, options = GreedySearch(generation, 4), search_options(generation, 3, 9)
    logits = torch.tensor([[0.0, 0, 0, 9], [0.0, 0, 0, 9], [0.0, 9, 0, 0]])
    before = Greedy(torch.zeros(3, 2, dtype=torch.int64), torch.tensor([False, True, True]))
    after = search(logits, before, torch.tensor(2), options)
    assert after.sequences[:, -1].tolist() == [0, 3, 1]
    assert after.open.tolist() == [False, True, False]


def test_constraints_apply_to_a_subset_of_columns() -> None:
    """Blocking, forcing and a prefix speak of tokens; a prefix may have one that has no row."""
    tokens = torch.tensor([1, 4, 5, 9])
    generation = config(no_repeat_ngram_size=1)
    search = GreedySearch(generation, VOCAB, tokens)
    state = Greedy(torch.tensor([[0, 5]]), torch.tensor([True]))
    logits = torch.tensor([[0.0, 1.0, 3.0, 2.0]])
    assert search(logits, state, torch.tensor(1), search_options(generation, 1, 9)).sequences.tolist() == [[0, 5, 9]]
    options = search_options(generation, 1, 9, torch.tensor([[7, 8]]))
    assert search(logits, state, torch.tensor(1), options).sequences.tolist() == [[0, 5, 8]]

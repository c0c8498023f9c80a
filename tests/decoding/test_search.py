"""Greedy and beam search against Hugging Face `generate` on the same weights."""

from __future__ import annotations

import pytest
import torch

from compressor.decoding.search import beam_search, greedy, pad_sources
from compressor.decoding.topk import can_group, group_starts, top, top_grouped
from compressor.generation_config import GenerationConfig, until_eos
from compressor.teachers.conversion.marian import to_marian
from tests.models.test_transformer import EOS, PAD, RULES, model, sources


def hugging_face(net, rules: GenerationConfig, num_beams: int, **arguments: object):
    marian = to_marian(net, rules)
    source, mask = sources()
    return marian.generate(
        input_ids=source,
        attention_mask=mask.long(),
        num_beams=num_beams,
        return_dict_in_generate=True,
        output_scores=True,
        **arguments,
    )


CASES = [
    {},
    {"max_new_tokens": 2},
    {"max_new_tokens": 5},
    {"min_new_tokens": 6},
    {"no_repeat_ngram_size": 2},
    {"forced_eos_id": None},
    {"begin_suppressed_ids": (7, 11, 12)},
    {"renormalize_logits": True},
    {"renormalize_logits": True, "no_repeat_ngram_size": 2, "min_new_tokens": 4},
]


def arguments(rules: GenerationConfig) -> dict[str, object]:
    return {
        "min_new_tokens": rules.min_new_tokens or None,
        "no_repeat_ngram_size": rules.no_repeat_ngram_size,
        "begin_suppress_tokens": list(rules.begin_suppressed_ids) or None,
    }


@pytest.mark.parametrize("change", CASES, ids=str)
def test_greedy_outputs_match_transformers(change: dict[str, object]) -> None:
    net, rules = model(), RULES.model_copy(update=change)
    theirs = hugging_face(net, rules, 1, **arguments(rules)).sequences[:, 1:].tolist()
    assert greedy(net, rules, *sources()) == [until_eos(row, EOS, PAD) for row in theirs]


@pytest.mark.parametrize("num_beams", [2, 5])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 1.7])
@pytest.mark.parametrize("change", CASES, ids=str)
def test_beam_scores_match_transformers(num_beams: int, length_penalty: float, change: dict[str, object]) -> None:
    net = model()
    rules = RULES.model_copy(update={**change, "length_penalty": length_penalty})
    output = hugging_face(
        net, rules, num_beams, length_penalty=length_penalty, num_return_sequences=2, **arguments(rules)
    )
    expected = [until_eos(row, EOS, PAD) for row in output.sequences[:, 1:].tolist()]
    hypotheses = beam_search(net, rules, *sources(), num_beams=num_beams, num_return=2)
    assert [best.tokens for row in hypotheses for best in row] == expected
    scores = torch.tensor([best.score for row in hypotheses for best in row])
    torch.testing.assert_close(scores, output.sequences_scores, atol=1e-4, rtol=0)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_limits_of_a_sentence_do_not_affect_its_neighbours(num_beams: int) -> None:
    net, (source, mask) = model(), sources()
    count = len(source)
    longest = [1 + 3 * (row % 4) for row in range(count)]
    shortest = [2 * (row % 3) for row in range(count)]
    penalties = [0.5 * row for row in range(count)]

    def outputs(rows: slice) -> list[list[int]]:
        limits = {"max_new_tokens": longest[rows], "min_new_tokens": shortest[rows]}
        if num_beams == 1:
            return greedy(net, RULES, source[rows], mask[rows], **limits)
        hypotheses = beam_search(
            net, RULES, source[rows], mask[rows], num_beams=num_beams, length_penalty=penalties[rows], **limits
        )
        return [best[0].tokens for best in hypotheses]

    together = outputs(slice(None))
    assert together == [outputs(slice(row, row + 1))[0] for row in range(count)]
    assert all(len(output) <= limit for output, limit in zip(together, longest, strict=True))


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    net, (source, mask) = model(), sources()
    together = greedy(net, RULES, source, mask)
    for row, expected in enumerate(together):
        length = int(mask[row].sum())
        assert greedy(net, RULES, source[row : row + 1, :length], mask[row : row + 1, :length]) == [expected]


def test_a_forced_first_token_comes_first() -> None:
    rules = RULES.model_copy(update={"forced_bos_id": 9, "begin_suppressed_ids": (4,)})
    assert all(row[0] == 9 for row in greedy(model(), rules, *sources()))


def test_sources_are_padded_on_the_right() -> None:
    ids, mask = pad_sources([[5, 6, 7], [8]], pad_id=2)
    assert ids.tolist() == [[5, 6, 7], [8, 2, 2]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]


def test_grouped_topk_matches_topk() -> None:
    torch.manual_seed(0)
    scores = torch.randn(7, 640)
    scores[0, 64:96] += 10.0  # all in one group
    scores[1, ::40] = -torch.inf
    starts = group_starts(scores[:, 0], 640)
    for count in (1, 2, 11, 20):
        values, columns = top_grouped(scores, count, starts)
        expected = scores.topk(count)
        assert torch.equal(values, expected.values) and torch.equal(columns, expected.indices)
        values, columns = top(scores[:, :630], count)
        expected = scores[:, :630].topk(count)
        assert torch.equal(values, expected.values) and torch.equal(columns, expected.indices)
    assert int(top(torch.full((1, 130), -torch.inf), 2)[1].max()) < 130
    assert can_group(640, 20) and not can_group(640, 21) and not can_group(641, 2)

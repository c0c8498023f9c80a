"""Multiply-adds and bytes against what PyTorch counts while it runs the model, and floors worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.engines.random_model import Shape, random_run
from benchmarks.roofline.rates import MB, Rates
from benchmarks.roofline.work import Point, encoder, roofline, steps, terms
from compressor.models.transformer import Transformer

SHAPE = Shape(3, 2, 16, 40, 2, 90)
POINT = Point(*SHAPE, source_tokens=6, target_tokens=4, batch_size=5, num_beams=1)


@torch.no_grad()
def counted() -> list[int]:
    """Multiply-adds of the encoder, then of each step, by PyTorch's own counter."""
    model = random_run(SHAPE, max_length=8).model
    found = []
    with FlopCounterMode(display=False) as counter:
        source = torch.ones(POINT.batch_size, POINT.source_tokens, dtype=torch.int64)
        state = model.initial_state(model.encode(source, source.bool()))
    found.append(counter.get_total_flops() // 2)
    for _ in range(POINT.target_tokens):
        with FlopCounterMode(display=False) as counter:
            _, state = model.step(source[:, 0], state)
        found.append(counter.get_total_flops() // 2)
    return found


def test_multiply_adds_are_those_that_pytorch_counts() -> None:
    work = [encoder(POINT), *steps(POINT)]
    assert [part.matmuls + part.attention for part in work] == counted()


def test_weights_are_those_of_the_model() -> None:
    model = random_run(SHAPE, max_length=8).model
    assert isinstance(model, Transformer)
    sizes = {name: tensor.numel() for name, tensor in model.named_parameters() if tensor.dim() == 2}
    first = sum(size for name, size in sizes.items() if name.startswith("encoder.") or "key_value" in name)
    assert encoder(POINT).weights == first
    assert next(steps(POINT)).weights == sum(sizes.values()) - first  # the shared table is the output layer


def test_what_a_step_reads_grows_with_its_caches() -> None:
    read = [step.cache for step in steps(POINT._replace(num_beams=3))]
    # two layers, keys and values of 16 floats: of 6 source tokens a sentence, and of 3 more entries after every step
    assert read == [5 * (6 + 3 * earlier) * 2 * 2 * 16 * 4 for earlier in range(4)]


def test_beams_multiply_matmuls_and_attention_but_not_the_encoder() -> None:
    wide = POINT._replace(num_beams=3)
    assert encoder(wide) == encoder(POINT)
    for one, three in zip(steps(POINT), steps(wide), strict=True):
        assert (three.matmuls, three.attention) == (3 * one.matmuls, 3 * one.attention)
        assert three.weights == one.weights


def test_a_stretch_takes_what_is_longer_reading_or_multiplying() -> None:
    # d 1, no feed-forward: the encoder has 4 + 2 weights, a step 6 + 4; all fits in 1 MB, which is read at 2 bytes a
    # second; memory gives half of a byte a second.
    point = Point(1, 1, 1, 0, 1, 4, source_tokens=3, target_tokens=1, batch_size=1, num_beams=1)
    rates = Rates({1: 2e-9, 64: 0.5e-9}, {"int8": 10e-9, "fp32": 4e-9})
    encoding = 3 * 6 / 10 + 2 * 3 * 3 / 4  # 6.3 s, longer than reading 6 bytes
    step = 10 / 10 + 2 * (1 + 3) / 4  # 3 s, shorter than reading 10 bytes and 3 pairs of floats, 24 bytes
    assert encoding + step < (6 + 34) / 2  # so that reading is the limit
    seconds, limit = roofline(point, "int8", rates)
    assert (seconds, limit) == (pytest.approx(encoding + 34 / 2), "reading")
    # fp32: 24 bytes and 18 multiply-adds of the encoder, 64 bytes and 10 multiply-adds of the step; reading is faster
    faster = rates._replace(gb_per_s={1: 20e-9, 64: 20e-9})
    assert roofline(point, "fp32", faster) == (pytest.approx(18 / 4 + 18 / 4 + 10 / 4 + 8 / 4), "multiplying")


def test_rates_between_two_sizes_are_on_the_line_between_their_logarithms() -> None:
    rates = Rates({1: 30.0, 4: 20.0, 64: 10.0}, {"int8": 5.0})
    speeds = [6e10 / rates.read_s(6e10, size * MB) for size in (0.5, 1, 2, 4, 16, 64, 1000)]
    assert speeds == pytest.approx([30e9, 30e9, 25e9, 20e9, 15e9, 10e9, 10e9])
    assert rates.multiply_s(1e10, "int8") == 2.0


def test_terms_say_how_often_each_thing_is_done() -> None:
    found = terms(POINT._replace(num_beams=2))
    assert (found["call"], found["encoder layer"], found["step"], found["decoder layer of a step"]) == (1, 3, 4, 8)
    assert found["encoder multiply-add"] == 5 * 6 * encoder(POINT).weights
    assert found["weight of a step"] * 10 == found["step multiply-add"]  # 5 sentences, 2 beams
    assert (found["step of beam search"], found["column of a beam"]) == (4, 4 * 10 * 90)
    greedy = terms(POINT)
    assert (greedy["step of beam search"], greedy["column of a beam"]) == (0, 0)

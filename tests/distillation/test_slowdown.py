"""A sudden slowdown is noticed once, by the time of equally many tokens."""

from __future__ import annotations

import pytest

from compressor.distillation.slowdown import ENOUGH, SlowdownWatch

USUAL = [(1.0, 1000)] * ENOUGH


@pytest.mark.parametrize(
    ("observed", "noticed"),
    [
        ([*USUAL, (2.9, 1000)], []),
        ([*USUAL, (3.3, 1000), (9.0, 1000), (4.0, 1000)], [3.3]),  # one episode
        ([*USUAL, (4.0, 1000), (1.0, 1000), (5.0, 1000)], [4.0, 5.0]),  # over in between
        ([*USUAL, (4.0, 1000), (2.0, 1000), (5.0, 1000)], [4.0]),  # not over: still twice as long
        ([*USUAL, *[(4.0, 1000)] * 200], [4.0]),  # what is usual does not move during an episode
        ([*USUAL, (3.3, 1400)], [3.3]),
        ([*USUAL, (8.0, 4000)], []),  # more tokens take longer
        ([*USUAL, *[(5.0, 4000)] * ENOUGH, (4.0, 1000), (20.0, 4000)], [4.0]),
        ([*USUAL, *[(5.0, 4000)] * ENOUGH, (20.0, 4000)], [4.0]),
        ([*USUAL[1:], (9.0, 1000)], []),  # not known yet what is usual
        ([*USUAL, *[(1.0 + step / 10, 1000) for step in range(60)]], []),  # rollouts grow: not sudden
    ],
)
def test_only_the_first_of_an_episode_is_noticed(observed: list[tuple[float, int]], noticed: list[float]) -> None:
    watch = SlowdownWatch()
    ratios = [watch.observe(*one) for one in observed]
    assert [ratio for ratio in ratios if ratio is not None] == pytest.approx(noticed)

"""Writes the contexts of a group of batches: each example's by its origin, those of the student by a rollout."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from accelerate import Accelerator

from compressor.data.batching import Batch
from compressor.distillation.background import BackgroundRollouts
from compressor.distillation.contexts import Contexts, TokenIds, build_contexts
from compressor.distillation.distributed import gather_objects
from compressor.distillation.methods import resolve
from compressor.distillation.replay import ReplayBuffer
from compressor.distillation.rollout import FULL_BATCH_ROLLOUT, SampleKey, rollout
from compressor.distillation.setup import Setup
from compressor.distillation.signals import Signal
from compressor.errors import ConfigError
from compressor.method_table import Origin
from compressor.models.base import Seq2SeqModel

Place = tuple[Batch, int]
"""An example as its pass has it: a batch and a row of it."""


def examples_of(group: Sequence[Batch]) -> list[Place]:
    """Returns the examples of batches."""
    return [(batch, row) for batch in group for row in range(len(batch.indices))]


def _keys(examples: Sequence[Place]) -> tuple[list[int], list[int]]:
    """Returns the indices of examples, and how often each was trained on before."""
    return [batch.indices[row] for batch, row in examples], [batch.visit for batch, _ in examples]


def _sources(examples: Sequence[Place]) -> list[TokenIds]:
    """Returns the source of each example, without padding."""
    return [batch.source[row][batch.source_mask[row]].numpy() for batch, row in examples]


class ContextWriter:
    """Writes contexts by the method's policy."""

    def __init__(self, setup: Setup, accelerator: Accelerator) -> None:
        """Raises ConfigError where the recipe's rollouts cannot be written with this teacher or on this device."""
        self.setup, self.recipe, self.method = setup, setup.recipe, resolve(setup.recipe.method)
        self.accelerator, self.student = accelerator, setup.student
        self.replay = ReplayBuffer(self.recipe.method.rollout.replay, self.recipe.training.seed)
        self.speculating_teacher = self._speculating_teacher()
        self.dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
        """Of rollouts: that of training's products."""
        self.background = self._background()
        self._copy: Seq2SeqModel | None = None
        self.seconds = 0.0
        """Time that this process has spent in rollouts, or waiting for them."""

    def write(self, group: list[Batch], share: float, signal: Signal) -> list[Contexts]:
        """Returns each batch's contexts, by the method's policy; an example without a reference takes a rollout.

        Args:
            group: batches; their rollouts are decoded together.
            share: β.
            signal: what the teacher wrote.
        """
        examples, places = examples_of(group), self._places(group, share)
        outputs: list[TokenIds] = [()] * len(examples)
        for origin, chosen in places.items():
            texts = self._outputs(origin, [examples[place] for place in chosen], signal)
            for place, tokens in zip(chosen, texts, strict=True):
                outputs[place] = tokens
        if self.replay.probability:  # those of all processes, so that their number changes nothing
            chosen = places[Origin.STUDENT]
            rollouts = {examples[place][0].indices[examples[place][1]]: outputs[place] for place in chosen}
            for of_process in gather_objects(self.accelerator, rollouts):
                self.replay.store(of_process)
        from_data = [True] * len(examples)
        for place in places[Origin.STUDENT]:
            from_data[place] = False
        contexts, start = [], 0
        for batch in group:
            rows = slice(start, start + len(batch.indices))
            contexts.append(build_contexts(outputs[rows], from_data[rows], self.setup.generation))
            start = rows.stop
        return contexts

    def _places(self, group: list[Batch], share: float) -> dict[Origin, list[int]]:
        """Returns where each example's context comes from: places among the examples of a group, by origin."""
        policy, seed = self.method.contexts, self.recipe.training.seed
        origins: list[Origin] = []
        for batch in group:
            origins += policy.choose(batch.indices, share, seed, batch.visit)
        places: dict[Origin, list[int]] = {origin: [] for origin in Origin}
        for place, ((batch, _), origin) in enumerate(zip(examples_of(group), origins, strict=True)):
            absent = origin is Origin.REFERENCE and batch.target is None
            places[Origin.STUDENT if absent else origin].append(place)
        return places

    def _outputs(self, origin: Origin, examples: Sequence[Place], signal: Signal) -> Sequence[TokenIds]:
        match origin:
            case Origin.STUDENT if self.background is not None:
                return self._from_background(self.background, examples)
            case _ if not examples:
                return []
            case Origin.REFERENCE:
                return [batch.target[row].numpy() for batch, row in examples if batch.target is not None]
            case Origin.TEACHER:
                return signal.outputs(*_keys(examples))
            case Origin.STUDENT:
                start = time.monotonic()
                written = self._replayed_or_rolled_out(examples)
                self.seconds += time.monotonic() - start
                return written

    def _background(self) -> BackgroundRollouts | None:
        """Starts the process that writes rollouts, if the recipe has one. Raises ConfigError where there is a GPU."""
        if not self.recipe.method.rollout.background:
            return None
        device = self.accelerator.device.type
        if device != "cpu":
            raise ConfigError(
                f"method.rollout.background: is for training on a processor, this is {device}; leave it out"
            )
        return BackgroundRollouts(self.student, self._rollout_settings(), self.dtype)

    def begin(self, group: list[Batch], share: float) -> None:
        """Has a group's rollouts written in the background with the present weights; ``write`` takes them."""
        assert self.background is not None
        examples = examples_of(group)
        self._begin(self.background, [examples[place] for place in self._places(group, share)[Origin.STUDENT]])

    def _begin(self, background: BackgroundRollouts, examples: Sequence[Place]) -> None:
        background.begin(self.student, _sources(examples), self._sample_keys(examples))

    def _from_background(self, background: BackgroundRollouts, examples: Sequence[Place]) -> list[list[int]]:
        """Returns the rollouts that were begun for these examples; the first group's are begun here."""
        start = time.monotonic()
        if not background.pending:
            self._begin(background, examples)
        written = background.take()
        self.seconds += time.monotonic() - start
        return written

    def _replayed_or_rolled_out(self, examples: Sequence[Place]) -> list[TokenIds]:
        """Returns the student's outputs, some of them earlier ones."""
        earlier = self.replay.draw(*_keys(examples))
        fresh = [place for place, output in enumerate(earlier) if output is None]
        written = dict(zip(fresh, self.roll_out([examples[place] for place in fresh]), strict=True))
        return [written[place] if output is None else output for place, output in enumerate(earlier)]

    def _speculating_teacher(self) -> Seq2SeqModel | None:
        """Returns the teacher that takes part in rollouts, if it does. Raises ConfigError if it cannot."""
        if self.recipe.method.rollout.strategy != "speculative":
            return None
        teacher = self.setup.teacher
        assert teacher is not None  # the recipe's validation
        model = teacher.as_model()
        if model is None:
            raise ConfigError(
                "method.rollout.strategy: speculative needs a teacher that is a run, or has Marian's or BART's layout; "
                f"{teacher.name} has another"
            )
        return model.to(self.accelerator.device)

    def roll_out(self, examples: Sequence[Place]) -> list[list[int]]:
        """Returns the student's outputs for sources; an example's index and visit key its samples."""
        write, model = self._rollout_settings(), self._present_student()
        return write(model, _sources(examples), keys=self._sample_keys(examples), teacher=self.speculating_teacher)

    def _present_student(self) -> Seq2SeqModel:
        """Returns the student with its present weights in the precision of rollouts."""
        if self.dtype == torch.float32:
            return self.student
        if self._copy is None:
            self._copy = copy.deepcopy(self.student).to(self.dtype)
        self._copy.load_state_dict(self.student.state_dict())  # rounds
        return self._copy

    def _rollout_settings(self) -> Callable[..., list[list[int]]]:
        """Returns ``rollout`` with the recipe's settings."""
        config, data = self.recipe.method.rollout, self.recipe.data
        limit = min(config.max_new_tokens or data.max_target_tokens, self.recipe.student.max_length - 1)
        return partial(
            rollout,
            generation=self.setup.generation,
            config=config,
            max_new_tokens=limit,
            batch_tokens=FULL_BATCH_ROLLOUT * self.recipe.training.batch_tokens,
        )

    def _sample_keys(self, examples: Sequence[Place]) -> list[SampleKey]:
        seed = self.recipe.training.seed
        return [SampleKey(seed, visit, index) for index, visit in zip(*_keys(examples), strict=True)]

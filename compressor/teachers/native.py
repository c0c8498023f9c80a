"""A run of this project as a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compressor.decoding.search import Hypothesis, beam_search, greedy
from compressor.errors import ConfigError
from compressor.models.base import Seq2SeqModel, count_parameters
from compressor.models.weights import load_run
from compressor.run_folder import is_run
from compressor.teacher_config import TeacherConfig
from compressor.teachers.base import Teacher, digest_of_weights
from compressor.teachers.registry import register_teacher


@register_teacher(recognizes=is_run)
class NativeTeacher(Teacher):
    """Loads a run folder.

    Raises:
        ModelError: the run is damaged.
        ConfigError: the recipe allows longer outputs than the model has positions.
    """

    def __init__(self, config: TeacherConfig) -> None:
        folder = Path(config.path)
        run = load_run(folder)
        self.name = folder.name
        self.model = run.model.requires_grad_(False)
        self.tokenizer = run.tokenizer
        overrides = config.model_dump(
            include={"length_penalty", "max_new_tokens", "no_repeat_ngram_size"}, exclude_none=True
        )
        self.generation = run.generation.model_copy(update=overrides)
        self.vocab_size = run.model.config.vocab_size
        self.parameters = count_parameters(run.model)
        self.max_source = self.max_context = run.model.config.max_length
        if (config.max_new_tokens or 0) > self.max_context:
            raise ConfigError(
                f"teacher.max_new_tokens: {config.max_new_tokens} is more than the teacher's {self.max_context}"
            )

    def to(self, device: Any) -> NativeTeacher:
        """See Teacher."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def logits(
        self, source: Tensor, source_mask: Tensor, context: Tensor, loss_mask: Tensor, tokens: Tensor | None = None
    ) -> Tensor:
        """See Teacher."""
        features = self.model.features(self.model.encode(source, source_mask), context)
        return self.model.project(features[loss_mask], tokens)

    def generate(
        self, source: Tensor, source_mask: Tensor, num_beams: int, num_return: int = 1
    ) -> list[list[Hypothesis]]:
        """See Teacher; a greedy output has no score (nan)."""
        if num_beams == 1:
            outputs = greedy(self.model, self.generation, source, source_mask)
            return [[Hypothesis(float("nan"), tokens)] for tokens in outputs]
        return beam_search(self.model, self.generation, source, source_mask, num_beams=num_beams, num_return=num_return)

    def embeddings(self) -> Tensor:
        """See Teacher."""
        return self.model.target_embeddings()

    def digest(self) -> str:
        """See Teacher."""
        return digest_of_weights(self.model)

    def as_model(self) -> Seq2SeqModel:
        """See Teacher."""
        return self.model

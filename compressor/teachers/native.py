"""A run of the project's own as a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compressor.config import TeacherConfig
from compressor.decoding.search import Hypothesis, beam_search, greedy
from compressor.errors import ConfigError
from compressor.models.base import count_parameters
from compressor.models.transformer import Transformer
from compressor.models.weights import load_run
from compressor.teachers.base import Teacher


class NativeTeacher(Teacher):
    """Opens a run folder. Raises ModelError if it is damaged, ConfigError if the recipe asks too much of it."""

    def __init__(self, folder: Path, config: TeacherConfig) -> None:
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
        config = self.model.config
        table = self.model.get_parameter("embedding.shared" if config.tie_embeddings else "embedding.target")
        return table.detach() * (config.d_model**0.5 if config.scale_embedding else 1.0)

    def transformer(self) -> Transformer | None:
        """See Teacher."""
        return self.model if isinstance(self.model, Transformer) else None

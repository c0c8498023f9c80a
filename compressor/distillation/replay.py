"""The student's earlier outputs, which replace some rollouts (Ko et al. 2024, DistiLLM: off-policy student outputs).

The paper draws pairs of source and output from a buffer of recent ones; here a source is trained on when its batch
comes, so that it is the source's own last rollout that is taken again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from compressor.batching import TokenIds
from compressor.data.random_draws import Stream, uniform
from compressor.errors import ModelError
from compressor.files import write_atomic

REPLAY_FILE = "replay.safetensors"
"""The outputs in a checkpoint."""


class ReplayBuffer:
    """The last rollout of each source.

    Args:
        probability: that it is taken again.
        seed: of the run.
    """

    def __init__(self, probability: float, seed: int) -> None:
        self.probability, self.seed = probability, seed
        self.outputs: dict[int, NDArray[np.int32]] = {}
        """Token ids by the source's position in the corpus: 4 bytes a token."""

    def draw(self, indices: Sequence[int], visits: Sequence[int]) -> list[TokenIds | None]:
        """Returns the output to take again for each source; None: a rollout is to be written.

        Args:
            indices: the sources' positions in the corpus.
            visits: how often each was trained on before; with the index it keys the draw.
        """
        taken = uniform(Stream.REPLAY, self.seed, visits, indices)[:, 0] < self.probability
        return [self.outputs.get(index) if again else None for index, again in zip(indices, taken, strict=True)]

    def store(self, outputs: Mapping[int, TokenIds]) -> None:
        """Takes new rollouts, by the source's position, in place of older ones."""
        self.outputs |= {index: np.asarray(tokens, dtype=np.int32) for index, tokens in outputs.items()}

    def save(self, folder: Path) -> None:
        """Writes the outputs into the folder of a checkpoint. Raises StorageError."""
        count = len(self.outputs)
        arrays = {
            "indices": np.fromiter(self.outputs, dtype=np.int64, count=count),
            "lengths": np.fromiter(map(len, self.outputs.values()), dtype=np.int64, count=count),
            "tokens": np.concatenate([np.zeros(0, dtype=np.int32), *self.outputs.values()]),
        }
        write_atomic(folder / REPLAY_FILE, save(arrays))

    def load(self, folder: Path) -> None:
        """Reads the outputs of a checkpoint.

        Raises:
            ModelError: the file is missing or damaged.
        """
        path = folder / REPLAY_FILE
        try:
            arrays = load_file(path)
            parts = np.split(arrays["tokens"], np.cumsum(arrays["lengths"])[:-1])
            self.outputs = dict(zip(arrays["indices"].tolist(), parts, strict=False))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            message = f"{path}: the student's outputs cannot be read ({error}); start again with {{force}}"
            raise ModelError(message, options={"force": True}) from None

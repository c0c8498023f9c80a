"""The process that augments beside others: ``python -m compressor.data.augmentation_worker TOKENIZER CORPUS``.

CORPUS is the folder of a tokenized corpus, see ``token_files``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from compressor.data.augmentation import Augmentation, Replacements
from compressor.data.token_files import map_rows
from compressor.data.token_rows import IntArray
from compressor.data.worker_processes import serve
from compressor.data_config import AugmentationConfig, DataConfig
from compressor.text.tokenizer import load_tokenizer


class AugmentRequest(NamedTuple):
    """A part of a pass, see ``Augmentation``."""

    config: AugmentationConfig
    data: DataConfig
    seed: int
    first_ids: tuple[int, ...]
    visit: int
    part: IntArray


def main() -> None:
    """Answers each ``AugmentRequest`` with ``Replacements``."""
    tokenizer = load_tokenizer(Path(sys.argv[1]))
    sources, targets = map_rows(Path(sys.argv[2]))

    def answer(request: AugmentRequest) -> Replacements:
        augmentation = Augmentation(request.config, request.data, tokenizer, request.seed, request.first_ids)
        return augmentation.replacements(sources, targets, request.visit, request.part)

    serve(answer)


if __name__ == "__main__":
    main()

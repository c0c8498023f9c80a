"""What a run writes for those who watch it: ``metrics.jsonl``, ``samples.jsonl`` and TensorBoard's event files."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from compressor.errors import DependencyError, install_command
from compressor.files import storage_errors
from compressor.run_folder import METRICS_FILE, SAMPLES_FILE, TENSORBOARD_FOLDER

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

NOT_CURVES = frozenset({"update", "seconds", "positions", "target_tokens"})
"""Numbers of a line of ``metrics.jsonl`` that TensorBoard gets no curve of."""


class Sample(NamedTuple):
    """A dev source, the student's output for it, and the reference."""

    source: str
    output: str
    reference: str


def check_tensorboard() -> None:
    """Raises DependencyError where tensorboard is missing; called before the data are read."""
    if importlib.util.find_spec("tensorboard") is None:
        raise DependencyError(f"training.tensorboard needs tensorboard: {install_command('train')}")


class RunLog:
    """The files of a run that is being watched. Use it in a ``with`` block."""

    def __init__(self, out: Path, update: int, tensorboard: bool, *, writes: bool = True) -> None:
        """Opens the log.

        Args:
            out: the run folder.
            update: updates that were made before; what TensorBoard has of later ones is hidden.
            tensorboard: write its event files, too.
            writes: False for the processes of a distributed run that write nothing.
        """
        self._out, self._writes = out, writes
        self._board = _board(out / TENSORBOARD_FOLDER, update) if tensorboard and writes else None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        if self._board is not None:
            self._board.close()

    def training(self, record: Mapping[str, Any]) -> None:
        """Writes what updates report; ``record`` has ``update`` and the numbers of the curves."""
        self._append(METRICS_FILE, [record])
        self._curves("training", record, record["update"])

    def dev(self, record: Mapping[str, Any], samples: Sequence[Sample] = ()) -> None:
        """Writes a dev score (``record`` has ``update`` and ``dev``), and sample outputs."""
        update = record["update"]
        self._append(METRICS_FILE, [record])
        self._append(SAMPLES_FILE, [{"update": update, **sample._asdict()} for sample in samples])
        self._curves("dev", {**record["dev"], "agreement": record.get("agreement")}, update)
        if self._board is not None and samples:
            text = "\n\n---\n\n".join(
                "\n\n".join(f"{name}: {value}" for name, value in s._asdict().items()) for s in samples
            )
            self._board.add_text("samples", text, update)

    def _curves(self, group: str, record: Mapping[str, Any], update: int) -> None:
        if self._board is not None:
            for name, value in record.items():
                if name not in NOT_CURVES and isinstance(value, int | float):
                    self._board.add_scalar(f"{group}/{name}", value, update)

    def _append(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        if self._writes and records:
            path = self._out / name
            with storage_errors(self._out), path.open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _board(folder: Path, update: int) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder, purge_step=update + 1 if update else None)

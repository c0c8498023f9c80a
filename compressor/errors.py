"""Every failure that a user can cause or cure, as one tree.

CompressError                 exit code 1
├── ConfigError               2   a recipe or an option is wrong; lists every mistake
├── InputError                2   a text, an id or a parameter is outside what the model takes
│   └── TooLongError          2   a source is longer than the model's limit
├── DataError                 3   a corpus is missing, empty, misaligned or not UTF-8
├── VocabularyError           4   teacher and student disagree about tokens
├── ModelError                4   a checkpoint is missing, damaged or of an unknown kind
├── BundleError               5   a bundle is incomplete, altered or of another version
├── ExportError               6   a model cannot be exported, or the export differs from it
├── OutputExistsError         7   the output folder exists; nothing was overwritten
├── StorageError              8   the disk is full or the folder is not writable
├── DependencyError           9   a package is missing, or two exclude each other
└── InterruptedRun            130 stopped by the user; the checkpoint can be resumed
"""

from __future__ import annotations


class CompressError(Exception):
    """Base of the tree. ``str(error)`` is one line: what is wrong, where, and what to do."""

    exit_code = 1


class ConfigError(CompressError):
    """A recipe or an option is wrong. ``problems`` holds one line for each mistake."""

    exit_code = 2

    def __init__(self, message: str, problems: list[str] | None = None) -> None:
        self.problems = problems or []
        super().__init__("\n  ".join([message, *self.problems]))


class InputError(CompressError):
    """A text, a token id or a generation parameter is outside what the model takes."""

    exit_code = 2


class TooLongError(InputError):
    """Sources are longer than the model's limit.

    ``tokens`` is the length of the first and ``limit`` the model's, in tokens; ``texts`` has the index and the length of
    every source that is too long.
    """

    def __init__(self, message: str, *, tokens: int, limit: int, texts: tuple[tuple[int, int], ...] = ()) -> None:
        self.tokens = tokens
        self.limit = limit
        self.texts = texts
        super().__init__(message)


class DataError(CompressError):
    """A corpus is missing, empty, misaligned or not UTF-8."""

    exit_code = 3


class VocabularyError(CompressError):
    """Teacher and student do not share a target vocabulary."""

    exit_code = 4


class ModelError(CompressError):
    """A checkpoint is missing, damaged or of a kind that is not supported."""

    exit_code = 4


class BundleError(CompressError):
    """A bundle is incomplete, altered, or written by an incompatible version."""

    exit_code = 5


class ExportError(CompressError):
    """A model cannot be exported, or the exported graphs do not agree with it."""

    exit_code = 6


class OutputExistsError(CompressError):
    """The output folder exists already; nothing was overwritten."""

    exit_code = 7


class StorageError(CompressError):
    """The disk is full, or the output folder cannot be written."""

    exit_code = 8


class DependencyError(CompressError):
    """A package is missing, or two installed packages exclude each other."""

    exit_code = 9


class InterruptedRun(CompressError):
    """The user stopped a run; its last checkpoint can be resumed."""

    exit_code = 130

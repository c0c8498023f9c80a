"""Every failure that a user can cause or cure, as one tree of errors that carry data.

::

    CompressError
    ├── ConfigError             a recipe or an option is wrong; lists every mistake
    ├── InputError              a text, a token id or a search option is outside what the model takes
    │   └── TooLongError        sources are longer than the model's limit; lists all of them
    ├── DataError               a corpus is missing, empty, misaligned or not UTF-8
    ├── VocabularyError         teacher and student have different target vocabularies
    ├── ModelError              a checkpoint is missing, damaged or of an unsupported kind
    ├── BundleError             a bundle is incomplete, altered or of another format version
    ├── ExportError             a model cannot be exported, or the export computes something else
    ├── OutputExistsError       the output folder exists; nothing was overwritten
    ├── StorageError            the disk is full or the folder is not writable
    ├── DivergedRun             a loss or a gradient is not finite (the update was not made), or the loss rose far
    ├── LostProcess             another process of a distributed run has ended
    ├── DependencyError         a package is missing, or two packages exclude each other
    └── InterruptedRun          the user stopped a run; its last checkpoint can be resumed

A message is a template. It names options of the Python API, and whoever shows the error renders them: ``str(error)`` as
Python (``dev_source``), the command line as flags (``--dev-source``, see ``compressor.cli.errors``), the server as JSON
pointers. Exit codes and HTTP statuses are in tables of those two.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

OptionRenderer = Callable[[str, object], str]
"""Name of an option, and the value that the message suggests for it (None: only the name) -> how to write it."""


def python_option(name: str, value: object = None) -> str:
    """Returns ``name``, or ``name=value`` as a keyword argument is written; a list is of alternatives."""
    if isinstance(value, list):
        return f"{name}={' or '.join(map(repr, value))}"
    return name if value is None else f"{name}={value!r}"


def text_number(index: int) -> str:
    """Returns how a message calls the text at ``index`` (0-based) of a call: ``text 1`` is the first."""
    return f"text {index + 1}"


def install_command(extra: str) -> str:
    """Returns how a message says to install an extra: the project is installed from its checkout or wheel."""
    return f"pip install '.[{extra}]' in the checkout, or 'FILE.whl[{extra}]' with its wheel"


class CompressError(Exception):
    """Base of the tree.

    Args:
        message: What is wrong, where, and what to do. ``{name}`` stands for an option that ``options`` lists.
        options: Names of the options that the message mentions; or a mapping from names to the values that it
            suggests, None for a name alone, a list for alternatives: ``{"device": "cpu", "force": True}``.

    Attributes:
        message: The template.
        options: The mapping.
    """

    def __init__(self, message: str, *, options: Iterable[str] | Mapping[str, object] = ()) -> None:
        self.message = message
        self.options: dict[str, object] = dict(options) if isinstance(options, Mapping) else dict.fromkeys(options)
        super().__init__(message)

    def __str__(self) -> str:
        return self.render()

    def render(self, option: OptionRenderer = python_option, text: Callable[[int], str] = text_number) -> str:
        """Returns the message for a reader.

        Args:
            option: How an option is written.
            text: How the text at a 0-based index is called; only input errors are about one.
        """
        message = self._template(text)
        for name, value in self.options.items():
            message = message.replace(f"{{{name}}}", option(name, value))
        return message

    def _template(self, text: Callable[[int], str]) -> str:
        """Returns the message with texts named and options still in braces."""
        return self.message


class ConfigError(CompressError):
    """A recipe or an option is wrong.

    Args:
        message: See ``CompressError``.
        problems: A line for each mistake, options in braces here, too.
        options: See ``CompressError``.
    """

    def __init__(
        self,
        message: str,
        problems: Sequence[str] = (),
        *,
        options: Iterable[str] | Mapping[str, object] = (),
    ) -> None:
        self.problems = list(problems)
        super().__init__(message, options=options)

    def _template(self, text: Callable[[int], str]) -> str:
        return "\n  ".join([self.message, *self.problems])


class InputError(CompressError):
    """A text, a token id or a search option is outside what the model takes.

    Args:
        message: See ``CompressError``; ``{text}`` stands for the text at ``index``.
        index: Position of the wrong text among those of the call, 0-based.
        option: Name of the wrong option; the message may have it in braces.
        actual: What was given: a number, or a name.
        limit: The most that is allowed.
        options: Further options that the message mentions.
    """

    def __init__(
        self,
        message: str,
        *,
        index: int | None = None,
        option: str | None = None,
        actual: object = None,
        limit: float | None = None,
        options: Iterable[str] | Mapping[str, object] = (),
    ) -> None:
        super().__init__(message, options=options)
        self.index, self.option, self.actual, self.limit = index, option, actual, limit
        if option is not None:
            self.options.setdefault(option, None)

    def _template(self, text: Callable[[int], str]) -> str:
        return self.message if self.index is None else self.message.replace("{text}", text(self.index))


class TooLongError(InputError):
    """Sources are longer than the model's limit.

    Args:
        texts: Every such text: its 0-based index in the call, and its length in tokens.
        limit: Most tokens of a source.
        sentences: Indices of those of which only a sentence is that long; None: texts cannot be read in parts here.

    Attributes:
        texts, sentences: As given.
        index, actual: The first of them.
    """

    def __init__(self, texts: Sequence[tuple[int, int]], limit: int, sentences: Collection[int] | None = None) -> None:
        self.texts = tuple(texts)
        self.sentences = sentences
        index, length = self.texts[0]
        cure = "shorten it, or have it cut" if len(self.texts) == 1 else "shorten them, or have them cut"
        super().__init__(
            f"the limit is {limit}: {cure} ({{truncation}})",
            index=index,
            actual=length,
            limit=limit,
            options={"truncation": "longest_first" if sentences is None else ["longest_first", "split"]},
        )
        self.args = (self.texts, limit, sentences)  # what pickle calls the class with

    def describe(self, index: int, length: int) -> str:
        """Returns what is wrong with one of ``texts``: ``has 12 tokens``."""
        return f"has {'a sentence of ' if index in (self.sentences or ()) else ''}{length} tokens"

    def _template(self, text: Callable[[int], str]) -> str:
        lengths = ", ".join(f"{text(index)} {self.describe(index, length)}" for index, length in self.texts)
        return f"{lengths}, {self.message}"


class DataError(CompressError):
    """A corpus is missing, empty, misaligned or not UTF-8."""


class VocabularyError(CompressError):
    """Teacher and student have different target vocabularies."""


class ModelError(CompressError):
    """A checkpoint is missing, damaged or of an unsupported kind."""


class BundleError(CompressError):
    """A bundle is incomplete, altered or of another format version."""


class ExportError(CompressError):
    """A model cannot be exported, or the exported graphs compute something else."""


class OutputExistsError(CompressError):
    """The output folder exists already; nothing was overwritten."""


class StorageError(CompressError):
    """The disk is full, or the output folder cannot be written."""


class DependencyError(CompressError):
    """A package is missing, or two installed packages exclude each other."""


class DivergedRun(CompressError):
    """A loss or a gradient is not finite (the update was not made), or the loss has risen far; the files stay."""


class LostProcess(CompressError):
    """Another process of a distributed run has ended; the last checkpoint can be resumed."""


class InterruptedRun(CompressError):
    """The user stopped a run; its last checkpoint can be resumed."""

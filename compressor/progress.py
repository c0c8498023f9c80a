"""A progress bar on stderr with one step at a time; silent where stderr is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

TRACKED = 1000
"""Items between two updates of a bar: drawing is slower than most work on one item."""


class Bar:
    """A bar that is shown while its ``with`` block runs."""

    def __init__(self, console: Console, shown: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        disable = not (shown and console.is_terminal)
        self._progress = Progress(*columns, console=console, disable=disable, transient=True)
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def track(self, items: Iterable[Item], label: str) -> Iterator[Item]:
        """Yields the items of a step, and counts them, a thousand at a time."""
        self.start(label, None)
        for number, item in enumerate(items, 1):
            yield item
            if number % TRACKED == 0 and self._task is not None:
                self._progress.update(self._task, completed=number, description=f"{label}: {number:,}")

    def start(self, label: str, total: int | None) -> Callable[[], None]:
        """Begins a step of ``total`` items (None: unknown), and returns a function that advances it by one."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        task = self._task = self._progress.add_task(label, total=total)
        return lambda: self._progress.advance(task)

    def count(self, label: str) -> Callable[[int, int], None]:
        """Begins a step, and returns a function that says how many of how many items are done."""
        self.start(label, None)
        task = self._task
        assert task is not None
        return lambda done, total: self._progress.update(task, completed=done, total=total)

    def say(self, message: str) -> None:
        """Prints a line above the bar; off a terminal, too."""
        self._progress.console.print(message, highlight=False, markup=False, soft_wrap=True)

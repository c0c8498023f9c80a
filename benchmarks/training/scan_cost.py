"""Measures the recurrences of SRU and SSRU in training: gradients written out, beside loops left to autograd.

Forward and backward pass together, on random numbers. The implementations take turns, and each one's gradients are
compared with those of the plain loop that autograd differentiates.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure.result_file import write_json
from benchmarks.measure.timing import interleave, median, percentile, stopwatch
from compressor.errors import ConfigError
from compressor.models.scans import GatedScan, LinearScan
from compressor.provenance import provenance

Recurrence = Callable[..., Tensor]

OWN = "gradient written out"
LOOP = "loop, autograd"


def sru_loop(candidate: Tensor, gate: Tensor, weight: Tensor, initial: Tensor) -> Tensor:
    """``GatedScan`` as a loop."""
    cells, cell = [], initial
    for step in range(candidate.shape[1]):
        forget = torch.sigmoid(gate[:, step] + weight * cell)
        cell = forget * cell + (1 - forget) * candidate[:, step]
        cells.append(cell)
    return torch.stack(cells, 1)


def ssru_loop(forget: Tensor, update: Tensor) -> Tensor:
    """``LinearScan`` as a loop."""
    cells, cell = [], torch.zeros_like(update[:, 0])
    for step in range(update.shape[1]):
        cell = forget[:, step] * cell + update[:, step]
        cells.append(cell)
    return torch.stack(cells, 1)


RECURRENCES: dict[str, tuple[Recurrence, Recurrence]] = {
    "sru": (GatedScan.apply, sru_loop),
    "ssru": (LinearScan.apply, ssru_loop),
}
"""Architecture to its recurrence with the gradient written out, and as a loop."""


def scan_cost(
    batch: int = 40, length: int = 25, width: int = 512, *, threads: int = 1, repeats: int = 50, compiled: bool = False
) -> dict[str, Any]:
    """Measures forward and backward pass of each recurrence.

    Args:
        batch, length, width: Sizes of the numbers: [batch, length, width].
        threads: Processor threads.
        repeats: Measured calls.
        compiled: ``torch.compile``, too, which takes a C++ compiler and a minute.

    Returns:
        ``{"provenance": ..., "settings": ..., "rows": [...]}``: milliseconds of a call, and ``ratio``, the median of
        quotients by the time of the gradient that is written out.

    Raises:
        ConfigError: gradients of an implementation are not those of the loop.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    rows = []
    for student, (own, loop) in RECURRENCES.items():
        inputs = _inputs(student, batch, length, width)
        versions = {OWN: own, LOOP: loop}
        if compiled:
            versions["loop, torch.compile"] = torch.compile(loop)
        expected = _gradients(loop, inputs)
        for name, version in versions.items():
            for ours, theirs in zip(_gradients(version, inputs), expected, strict=True):
                if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5):
                    raise ConfigError(f"{student}, {name}: its gradients are not those of the loop")
        probes = {name: stopwatch(_call_of(version)) for name, version in versions.items()}
        samples = {
            name: of_item[0] for name, of_item in interleave(probes, [inputs], repeats=repeats, warmup=3).items()
        }
        rows += [_row(student, name, of_version, samples[OWN]) for name, of_version in samples.items()]
    sizes = {"batch": batch, "length": length, "width": width, "threads": threads, "repeats": repeats}
    return {"provenance": provenance(seed=1), "settings": sizes, "rows": rows}


def _inputs(student: str, batch: int, length: int, width: int) -> list[Tensor]:
    """Returns random arguments of a recurrence, which want gradients."""
    first, second = torch.randn(batch, length, width), torch.randn(batch, length, width)
    numbers = [first, second, torch.randn(width), torch.randn(batch, width)] if student == "sru" else [
        first.sigmoid(), second
    ]  # fmt: skip
    return [one.requires_grad_() for one in numbers]


def _gradients(recurrence: Recurrence, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(recurrence(*inputs).square().sum(), inputs)


def _call_of(recurrence: Recurrence) -> Callable[[Sequence[Tensor]], object]:
    return lambda inputs: _gradients(recurrence, inputs)


def _row(student: str, name: str, own: Sequence[float], base: Sequence[float]) -> dict[str, Any]:
    return {
        "student": student,
        "implementation": name,
        "p50_ms": round(median(own) * 1e3, 3),
        "p90_ms": round(percentile(own, 90) * 1e3, 3),
        "ratio": round(median([time / reference for time, reference in zip(own, base, strict=True)]), 2),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    for name, default in (("batch", 40), ("length", 25), ("width", 512), ("threads", 1), ("repeats", 50)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, too (a C++ compiler, a minute)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result")


def run(options: argparse.Namespace) -> None:
    """Measures, writes the file, and prints a line for each row."""
    table = scan_cost(
        options.batch,
        options.length,
        options.width,
        threads=options.threads,
        repeats=options.repeats,
        compiled=options.compile,
    )
    if options.json:
        write_json(table, options.json)
    for row in table["rows"]:
        print(f"{row['student']:<6} {row['implementation']:<22} {row['p50_ms']:8.2f} ms   {row['ratio']:.2f}")

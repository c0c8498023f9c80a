"""The registry of conversions from Hugging Face checkpoints to the project's models.

A conversion is a module with a function under ``@register_conversion``; ``conversion/__init__.py`` imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from compressor.errors import ModelError
from compressor.models.transformer import Transformer

Converter = Callable[[Any], Transformer]
C = TypeVar("C", bound=Converter)


class _Conversion(NamedTuple):
    convert: Converter
    is_faster: bool


_CONVERSIONS: dict[type, _Conversion] = {}


def register_conversion(checkpoint_class: type, *, is_faster: bool = False) -> Callable[[C], C]:
    """Returns a decorator that registers a function as the converter of a class of checkpoints.

    Args:
        checkpoint_class: The Hugging Face model class.
        is_faster: Whether the converted model was measured to score contexts faster than the checkpoint; a teacher then
            uses it.
    """

    def register(converter: C) -> C:
        _CONVERSIONS[checkpoint_class] = _Conversion(converter, is_faster)
        return converter

    return register


def convert(checkpoint: Any) -> Transformer | None:
    """The project's model with the weights of a checkpoint, frozen; None if no conversion covers its layout."""
    conversion = _find(checkpoint)
    if conversion is None:
        return None
    try:
        return conversion.convert(checkpoint).requires_grad_(False)
    except ModelError:
        return None


def is_faster_converted(checkpoint: Any) -> bool:
    """Whether the converted model scores contexts faster than the checkpoint itself."""
    conversion = _find(checkpoint)
    return conversion is not None and conversion.is_faster


def _find(checkpoint: Any) -> _Conversion | None:
    """Returns the conversion of a checkpoint's class; None if there is none."""
    return next((entry for kind, entry in _CONVERSIONS.items() if isinstance(checkpoint, kind)), None)

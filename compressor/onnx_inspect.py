"""Reads operator domains and external tensors from the protobuf bytes of an ONNX file.

A bundle may come from a stranger, so both are checked before ONNX Runtime opens a graph. The serving side has no
``onnx`` package, so this module walks the fields of the few message types that matter
(https://protobuf.dev/programming-guides/encoding/) without building objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 32  # nesting of graphs, nodes and attributes; a search graph has two levels of graphs

# Fields of onnx.proto that hold messages: {message: {field number: message}}.
_NESTED: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 8: "OpsetImport", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 9: "OpsetImport", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
# Fields that name an operator domain: {message: field number}.
_DOMAIN = {"OpsetImport": 1, "Node": 7, "Function": 10}


class ExternalTensor(NamedTuple):
    """A tensor stored in another file."""

    location: str
    """Path of the file, relative to the graph."""
    offset: int
    """First byte."""
    length: int
    """Number of bytes; -1: up to the end of the file."""


class GraphNeeds(NamedTuple):
    """Operator domains that a file uses, and external tensors that it reads."""

    domains: set[str]
    externals: list[ExternalTensor]


def graph_needs(data: bytes) -> GraphNeeds:
    """Returns domains and external tensors of a serialized ``ModelProto``, with its functions and subgraphs.

    Args:
        data: Content of the file.

    Raises:
        ValueError: the bytes are not a protobuf message, or messages are nested more than ``_MAX_DEPTH`` deep.
    """
    needs = GraphNeeds(set(), [])
    _walk(memoryview(data), "Model", needs, 0)
    return needs


def _walk(data: memoryview, message: str, needs: GraphNeeds, depth: int) -> None:
    """Adds what a message of type ``message`` and the messages inside it use to ``needs``."""
    if depth > _MAX_DEPTH:
        raise ValueError("messages are nested too deeply")
    entries: dict[str, str] = {}
    nested = _NESTED.get(message, {})
    for field, value in _fields(data):
        if not isinstance(value, memoryview):
            continue
        if field == _DOMAIN.get(message):
            needs.domains.add(_text(value))
        elif nested.get(field) == "Entry":
            key, text = _entry(value)
            entries[key] = text
        elif field in nested:
            _walk(value, nested[field], needs, depth + 1)
    if entries:
        needs.externals.append(
            ExternalTensor(
                entries.get("location", ""), int(entries.get("offset", "0")), int(entries.get("length", "-1"))
            )
        )


def _entry(data: memoryview) -> tuple[str, str]:
    """Key and value of a ``StringStringEntryProto``."""
    parts = {field: _text(value) for field, value in _fields(data) if isinstance(value, memoryview)}
    return parts.get(1, ""), parts.get(2, "")


def _text(data: memoryview) -> str:
    return bytes(data).decode("utf-8")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yields (field number, value): a slice for a length-delimited field, an integer for any other."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield field, value
            continue
        if kind == _BYTES:
            size, position = _varint(data, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"unknown wire type {kind}")
        if position + size > len(data):
            raise ValueError("the file ends inside a message")
        yield field, data[position : position + size] if kind == _BYTES else 0
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """Decodes the variable-length integer at ``position``; returns it and the position after it."""
    result = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("the file ends inside a number")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7

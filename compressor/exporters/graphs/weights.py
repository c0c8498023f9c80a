"""Graphs on disk: one weights file for all graphs of a precision.

Tensors are told apart by their bytes alone, since the same weight is named, and sometimes shaped, differently in each
graph. ONNX Runtime maps the file, so that weights which are used as they are cost no memory of their own.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import onnx_ir as ir

from compressor.bundle import WEIGHTS_FILE

_INLINE = 1024
"""Bytes below which a tensor stays in its graph: shapes and axes must, and small biases cost less there."""
_PAGE, _LINE, _LARGE = 4096, 64, 1 << 16


def write_graphs(graphs: dict[str, ir.Model], folder: Path) -> dict[str, Path]:
    """Writes ``<name>.onnx`` for every graph and their weights; the models refer to the file afterwards.

    Returns:
        Graph name to path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    regions: dict[bytes, int] = {}
    with (folder / WEIGHTS_FILE).open("wb") as stream:
        for model in graphs.values():
            for value in _initializers(model):
                tensor = value.const_value
                assert tensor is not None
                data = tensor.tobytes()
                if len(data) < _INLINE:
                    continue
                key = hashlib.sha256(data).digest()
                if key not in regions:
                    boundary = _PAGE if len(data) >= _LARGE else _LINE
                    stream.write(bytes(-stream.tell() % boundary))
                    regions[key] = stream.tell()
                    stream.write(data)
                value.const_value = ir.ExternalTensor(
                    WEIGHTS_FILE,
                    regions[key],
                    len(data),
                    tensor.dtype,
                    shape=ir.Shape(tensor.shape.numpy()),
                    name=str(value.name),
                    base_dir=folder,
                )
        stream.flush()
        os.fsync(stream.fileno())
    paths = {name: folder / f"{name}.onnx" for name in graphs}
    for name, model in graphs.items():
        ir.save(model, paths[name])
    return paths


def _initializers(model: ir.Model) -> list[ir.Value]:
    """Returns the initializers of a graph and its subgraphs."""
    graphs = [model.graph, *model.graph.subgraphs()]
    return [value for graph in graphs for value in graph.initializers.values()]

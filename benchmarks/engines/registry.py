"""The engines, discovered from the subpackages of ``benchmarks.engines`` that have a ``descriptor`` module."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import cast

from benchmarks import engines
from benchmarks.engines.base import EngineDescriptor, FolderKind, Loader
from compressor.errors import ConfigError


def _discover() -> dict[str, EngineDescriptor]:
    """Returns the descriptors of all engines, one for each folder beside this module."""
    names = sorted(module.name for module in pkgutil.iter_modules(engines.__path__) if module.ispkg)
    modules = (importlib.import_module(f"{engines.__name__}.{name}.descriptor") for name in names)
    return {module.DESCRIPTOR.name: module.DESCRIPTOR for module in modules}


ENGINES: dict[str, EngineDescriptor] = _discover()
"""Name to descriptor, in alphabetical order."""

PEERS = tuple(name for name, engine in ENGINES.items() if engine.peer)
"""Names of the peers."""

BASELINE = next(engine for engine in ENGINES.values() if engine.baseline)
RIVAL = next(engine for engine in ENGINES.values() if engine.rival)


def engine_for(kind: FolderKind) -> EngineDescriptor:
    """The engine that runs a bundle, a run or a checkpoint when only the folder is named."""
    return next(engine for engine in ENGINES.values() if engine.opens == kind)


OWN = engine_for("bundle")
"""The engine of bundles, which the peers are compared with."""


def check_peers(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the peers of these names, ``all`` for every one, in the registry's order. Raises ConfigError."""
    if list(names) == ["all"]:
        return PEERS
    if unknown := [name for name in names if name not in PEERS]:
        raise ConfigError(f"peers: {', '.join(unknown)}: choose from {', '.join(PEERS)}")
    return tuple(name for name in PEERS if name in names)


def import_engine(name: str) -> Loader:
    """Imports the engine's library and returns the function that loads a model into it."""
    return cast(Loader, importlib.import_module(f"{engines.__name__}.{name}.engine").load)

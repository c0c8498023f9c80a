"""Ways to run a model, behind one small protocol. Each module is imported only when its engine is asked for."""

from benchmarks.engines.base import Engine, EngineName, EngineSpec, ModelName, Output, import_engine

__all__ = ["Engine", "EngineName", "EngineSpec", "ModelName", "Output", "import_engine"]

"""The environment of Python processes that this one starts."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def child_environment(**variables: str) -> dict[str, str]:
    """Returns this process's environment, in which a child imports the same ``compressor``, installed or not.

    Args:
        variables: Further variables.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **variables}

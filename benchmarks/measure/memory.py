"""Resident memory of this process, in MB (10^6 bytes).

Linux reports the present resident set and the peak since a reset. Elsewhere only the peak of the whole life of the
process is known, which is an upper bound for any part of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def resident_mb() -> float:
    """Returns the present resident set in MB (10^6 bytes)."""
    return _status("VmRSS:")


def peak_mb() -> float:
    """Returns the highest resident set since the last `reset_peak`, in MB (10^6 bytes)."""
    return _status("VmHWM:")


def reset_peak() -> bool:
    """Starts the peak anew from the present resident set; returns False where the system cannot."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _status(field: str) -> float:
    """Returns a field of the process's status in MB (10^6 bytes); elsewhere than on Linux the peak of its life."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return _lifetime_peak()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith(field))
    return kilobytes * 1024 / 1e6


def _lifetime_peak() -> float:
    """Returns the highest resident set since the process began, in MB (10^6 bytes)."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6

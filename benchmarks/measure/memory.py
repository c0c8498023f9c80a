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
    """The present resident set."""
    return _status("VmRSS:")


def peak_mb() -> float:
    """The highest resident set since the last `reset_peak`."""
    return _status("VmHWM:")


def reset_peak() -> bool:
    """Starts the peak anew from the present resident set; False where the system cannot."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _status(field: str) -> float:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return _lifetime_peak()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith(field))
    return kilobytes * 1024 / 1e6


def _lifetime_peak() -> float:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6

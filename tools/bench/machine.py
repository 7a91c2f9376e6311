"""The machine that a benchmark ran on: figures without it say little."""

from __future__ import annotations

import importlib.util
import os
import platform


def machine() -> dict[str, object]:
    """Return what tells a machine from others; `load` as it was in the minute before."""
    return {
        "processors": os.cpu_count() or 0,
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "loop": "asyncio" if importlib.util.find_spec("uvloop") is None else "uvloop",
        "system": platform.platform(),
    }

"""Entry point: `python -m storage_units`, installed as `corfu-storage`."""

from __future__ import annotations

import sys

from .server import main

if __name__ == "__main__":
    sys.exit(main())

"""Times as users type them."""

from __future__ import annotations

import re
import time
from datetime import datetime

import click

_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class TimeType(click.ParamType[float]):
    """A moment in ISO 8601, or how long ago it was (-5m); seconds since 1970."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse what the user typed; without a zone it means this machine's."""
        text = str(value)
        ago = re.fullmatch(r"-([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhd])", text)
        if ago is not None:
            return time.time() - float(ago[1]) * _UNIT_S[ago[2]]
        try:
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r} is no time (such as 2026-05-01T12:00, 2026-05-01T12:00Z or -5m)",
                param,
                ctx,
            )

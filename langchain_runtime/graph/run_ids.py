"""Names for runs: sortable by time, readable in a terminal, safe in a path."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime


def new_run_id() -> str:
    """For example ``20261122-165712-3f9a2c41``: UTC time to the second and 32 random bits."""
    return f"{datetime.now(tz=UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"

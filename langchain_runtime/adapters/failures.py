"""What an exception of a provider's client says about a request: billed or not, worth another try or not."""

from __future__ import annotations

import random
from typing import Final

_TOO_MANY_REQUESTS: Final = 429
_MAY_PASS: Final = frozenset({408, 409, _TOO_MANY_REQUESTS})
"""Statuses that the OpenAI and Anthropic clients try again, beside all of 500 and above (``_should_retry``)."""

_GAVE_UP: Final = frozenset({408, 504, 524})
"""Statuses of gateways that did not wait for the reply (RFC 9110, sections 15.5.9 and 15.6.5; Cloudflare's 524)."""

_NOT_CONNECTED: Final = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
"""httpx's errors of a connection that was never made (its exception hierarchy)."""

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 8.0
_LONGEST_ASKED = 60.0
"""Seconds, as in the same clients (``INITIAL_RETRY_DELAY``, ``MAX_RETRY_DELAY``, ``_calculate_retry_timeout``)."""


def http_error_status(error: BaseException) -> int | None:
    """Status of a complete HTTP error answer (400 to 599), which bills nothing; None for all other failures.

    None also for a gateway that gave up waiting (408, 504, 524): the provider behind it may have carried the request
    out.
    """
    status = _status(error)
    return None if status in _GAVE_UP else status


def _status(error: BaseException) -> int | None:
    for holder in (error, getattr(error, "response", None)):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int) and 400 <= status <= 599:  # noqa: PLR2004 - HTTP's client and server errors
            return status
    return None


def was_never_sent(error: BaseException) -> bool:
    """Whether no connection was made, so that no provider can have seen the request."""
    cause: BaseException | None = error
    while cause is not None:
        # By name, as below; both clients raise their own errors from httpx's.
        if any(base.__name__ in _NOT_CONNECTED for base in type(cause).__mro__):
            return True
        cause = cause.__cause__
    return False


def may_pass(error: BaseException) -> bool:
    """Whether the provider's own client would have sent the request again."""
    status = _status(error)
    if status is not None:
        return status in _MAY_PASS or status >= 500  # noqa: PLR2004 - HTTP's server errors
    # By name, so that no provider package is imported; time-outs are a subclass in both clients.
    return any(base.__name__ == "APIConnectionError" for base in type(error).__mro__)


def too_many_requests(error: BaseException) -> bool:
    """Whether the provider asks for patience."""
    return _status(error) == _TOO_MANY_REQUESTS


def speaks_against_model(error: BaseException) -> bool:
    """Whether the model, and not the request or the caller, is at fault: server errors, lost connections, time-outs."""
    status = _status(error)
    return (status is not None and status >= 500) or (status is None and may_pass(error))  # noqa: PLR2004 - as above


def retry_after(error: BaseException) -> float | None:
    """Seconds that the provider asks to wait; None if it does not say."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    for header, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        asked = headers.get(header, "")
        if asked.replace(".", "", 1).isdigit():
            return float(asked) / unit
    return None


def retry_delay(error: BaseException, failures: int) -> float:
    """Seconds until the next try: what the provider asks for, else exponential with jitter.

    Args:
        error: The last failure.
        failures: How many there were, from 1.
    """
    asked = retry_after(error)
    if asked is not None and 0 < asked <= _LONGEST_ASKED:
        return asked
    delay = min(_FIRST_DELAY * 2.0 ** (failures - 1), _LONGEST_DELAY)
    return delay * (1 - 0.25 * random.random())  # noqa: S311 - jitter, not a secret

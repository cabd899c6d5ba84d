"""How long to wait before the next try."""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# A server that asks for more is asked again after this.
_MOST_RETRY_AFTER = 3_600.0


class Backoff:
    """Full jitter: uniform between 0 and the current bound, which doubles from `first` to `most` seconds."""

    def __init__(self, first: float, most: float, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._first, self._most, self._uniform = first, most, uniform
        self._failures = 0

    def failed(self, at_least: float = 0.0) -> float:
        """Seconds to wait after one more failure; never under what the server asked for."""
        bound = min(self._most, self._first * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return max(at_least, self._uniform(0.0, bound))

    def succeeded(self) -> None:
        self._failures = 0


def retry_after(value: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float:
    """Seconds from a Retry-After header, as seconds or as an HTTP date (RFC 9110 10.2.3); 0 where there is none."""
    if value is None:
        return 0.0
    if value.isascii() and value.strip().isdigit():
        return min(_MOST_RETRY_AFTER, float(value))
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(_MOST_RETRY_AFTER, max(0.0, (moment - now()).total_seconds()))

"""Which patch to connect to next, decided from what is known of each: plain values in, one name out.

Up to `stay_connected` patches on an adapter stay connected. Above that a patch is visited when it is heard: connect,
drain its records, drop; the oldest data first, an urgent flag before all.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

# An advertisement is fresh this long: BlueZ's discovery repeats itself every 10.5 s. Nobody fresher answers a connect.
FRESH_SECONDS = 15.0
# While an adapter connects, BlueZ's discovery stands still: after so long without a break it gets one.
_LISTEN_EVERY, _LISTEN_SECONDS = 15.0, 8.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Thresholds. One of `slots` is kept free for an urgent patch and for pairing."""

    stay_connected: int = 4
    slots: int = 5
    visit_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """One patch, times on one monotonic clock: when it was last heard, when its data were last complete here, when it
    was last tried, and before when it must not be tried again. `wants_pairing`: a person waits for it.
    """

    device_id: str
    connected: bool = False
    heard_at: float | None = None
    data_at: float | None = None
    tried_at: float | None = None
    not_before: float = 0.0
    urgent: bool = False
    news: bool = False
    wants_pairing: bool = False

    def first(self) -> bool:
        """Does it go before all others, and into the slot that is kept free?"""
        return self.urgent or self.wants_pairing


def stays(patches: int, policy: Policy) -> bool:
    """Do connections last, with so many patches?"""
    return patches <= policy.stay_connected


def next_patch(candidates: Iterable[Candidate], now: float, policy: Policy, in_use: int) -> str | None:
    """The patch to connect to now; None when there is none to gain or no slot. `in_use`: slots taken by anybody."""
    known = list(candidates)
    staying = stays(len(known), policy)
    ready = [
        item
        for item in known
        if _wanted(item, now, policy, staying=staying)
        and _heard(item, now)
        and in_use < policy.slots - (not item.first())
    ]
    if not ready:
        return None
    return min(ready, key=lambda item: (not item.first(), _since(item), item.device_id)).device_id


class Listening:
    """Keeps an adapter that always has somebody to connect to from never hearing the others; times as in Candidate."""

    def __init__(self) -> None:
        self._connected_at = self._listened_at = -math.inf
        self._pause_at: float | None = None

    def connected(self, now: float) -> None:
        """A connect came to its end, whichever."""
        self._connected_at = now

    def next_patch(self, candidates: Iterable[Candidate], now: float, policy: Policy, in_use: int) -> str | None:
        """As the function of this name; None also while those who are due and not heard are listened for. Who goes
        first does not wait for that, nor make it longer.
        """
        known = list(candidates)
        quiet_since = self._connected_at if self._pause_at is None else min(self._connected_at, self._pause_at)
        if now - quiet_since >= _LISTEN_SECONDS:
            self._listened_at = now
        if now - self._listened_at > _LISTEN_EVERY and self._missed(known, now, policy):
            self._pause_at = now if self._pause_at is None else self._pause_at
            known = [item for item in known if item.first()]
        else:
            self._pause_at = None
        return next_patch(known, now, policy, in_use)

    @staticmethod
    def _missed(known: list[Candidate], now: float, policy: Policy) -> bool:
        staying = stays(len(known), policy)
        return any(_wanted(item, now, policy, staying=staying) and not _heard(item, now) for item in known)


def _since(item: Candidate) -> float:
    """How long it waits. One that is tried and fails does not go first for ever."""
    return max(-1.0 if time is None else time for time in (item.data_at, item.tried_at))


def _wanted(item: Candidate, now: float, policy: Policy, *, staying: bool) -> bool:
    return not item.connected and now >= item.not_before and (staying or _due(item, now, policy))


def _heard(item: Candidate, now: float) -> bool:
    return item.heard_at is not None and now - item.heard_at <= FRESH_SECONDS


def _due(item: Candidate, now: float, policy: Policy) -> bool:
    return item.first() or item.news or item.data_at is None or now - item.data_at >= policy.visit_seconds


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return min(300.0, 2.0 * 2.0 ** max(0, failures - 1))

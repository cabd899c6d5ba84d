"""Which session of a CGM a record belongs to, which number it has there, and what time that is (docs/decisions/0006).

A session's name is its Session Start Time as first read. Any collector may write that time, and none need be right; so
whether another value means another session is decided with the time offset the patch is at, and this gateway's clock.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

Facts = dict[str, int | str]
_WRAP, _HALF = 1 << 16, 1 << 15
# Minutes: how far two accounts of one moment may lie apart (a late notification; 100 ppm over 45 days are 6.5).
_TOLERANCE = 15
# A patch has no records from later than now; an hour is left for what its clock and its status may differ.
_AHEAD = 60
_LEAST_SESSION = 60
_CONFIRMED = timedelta(minutes=1)
# YYYYMMDDHHMMSS
_DIGITS = 14
_MINUTE = timedelta(minutes=1)


class Now(NamedTuple):
    """At `at` by this gateway's clock the session was at `sequence` minutes."""

    sequence: int
    at: datetime

    @property
    def begin(self) -> datetime:
        """When the session began, by this gateway's clock."""
        return self.at - self.sequence * _MINUTE


class Start(NamedTuple):
    """A Session Start Time as read: its digits, and the moment where its zone is known."""

    boot: int
    moment: datetime | None


class CgmSession:
    """Facts it keeps: `cgm_boot` (digits of the start as first read, and which session with these digits from the
    second on), `cgm_also` (digits that were read for it since), `cgm_start` (UTC), `cgm_begin` (the same moment by this
    gateway's clock when it last looked), `cgm_last` (highest sequence), `cgm_stopped` (at which one it stopped, 0 while
    it runs), `cgm_unclear` (1 while it may be another session: nothing is stored under either), `cgm_back` (when the
    session began by this gateway's clock, where its offset went back under the same digits).

    Methods hand back the facts that change; `known` is what was known before, these included.
    """

    def __init__(self, known: Mapping[str, int | str], boot: int | None) -> None:
        self._given = boot
        self.known: Facts = dict(known)
        self._pending: Start | None = None
        self._now: Now | None = None
        self._confirmed_at: datetime | None = None
        self._renew = False

    @property
    def boot(self) -> int | None:
        """None while it is not clear which session this is."""
        if self._given is not None:
            return self._given
        return None if self.unclear or "cgm_boot" not in self.known else int(self.known["cgm_boot"])

    @property
    def unclear(self) -> bool:
        return bool(self.known.get("cgm_unclear"))

    def unreadable(self) -> Facts:
        """The start cannot be read: after a reset, before a collector wrote it."""
        self._pending = self._now = self._confirmed_at = None
        return self._learn({"cgm_unclear": 1} if "cgm_boot" in self.known else {})

    def started(self, start: Start, at: datetime) -> Facts:
        """A start was read."""
        self._pending = self._now = self._confirmed_at = None
        known = self.known.get("cgm_boot")
        if known is None and start.moment is not None:
            return self._accept(start, start.moment)
        if known is not None and start.boot in {_digits(int(known)), self.known.get("cgm_also")}:
            self._confirmed_at, self._renew = at, True
            return self._learn({"cgm_unclear": 0} if self.unclear and not self.known.get("cgm_back") else {})
        self._pending = start
        return self._learn({} if known is None else {"cgm_unclear": 1})

    def at(self, offset: int, received_at: datetime) -> Facts:
        """The patch is at this offset now: it says so, or sends a new record."""
        facts: Facts = {}
        if self._pending is not None:
            facts = self._resolve(self._pending, Now(offset, received_at))
            if self._pending is not None:
                return facts
        sequence = self._current(offset, received_at)
        if sequence is None:
            self._now = None
            return facts | self._went_back(Now(offset, received_at))
        self._now = Now(sequence, received_at)
        if self.known.get("cgm_back"):
            facts |= self._learn({"cgm_back": "", "cgm_unclear": 0})
        if "cgm_boot" in self.known and (self._renew or not self.known.get("cgm_begin")):
            self._renew = False
            facts |= self._learn({"cgm_begin": self._now.begin.isoformat()})
        return facts

    def _went_back(self, now: Now) -> Facts:
        """Under the same digits (a factory date): the next session, once two looks agree on when it began."""
        if "cgm_boot" not in self.known:
            return {}
        before = self.known.get("cgm_back")
        if before and abs(now.begin - datetime.fromisoformat(str(before))) <= _TOLERANCE * _MINUTE:
            boot = str(self.known["cgm_boot"])
            again = int(boot[_DIGITS:] or 1) + 1
            self._now = now
            accepted = self._accept(Start(int(f"{boot[:_DIGITS]}{again}"), None), now.begin)
            return accepted | self._learn({"cgm_begin": now.begin.isoformat()})
        return self._learn({"cgm_back": now.begin.isoformat(), "cgm_unclear": 1})

    def anywhere(self, offset: int, received_at: datetime) -> Facts:
        """A record of a capture, which may be new or stored: where nothing better is known it is taken for new."""
        if self._pending is None:
            return {}
        start = self._pending
        if "cgm_boot" not in self.known:
            return self._accept(start, start.moment or received_at - offset * _MINUTE)
        return self._take(start, _by_digits(self.known, start.boot), Now(offset, received_at))

    def sequence(self, offset: int, received_at: datetime) -> int | None:
        """T12: the offset has 16 bits and wraps after 45.5 days. None where the session cannot be as old as that."""
        if self._now is not None:
            most = self._now.sequence + max(0, (received_at - self._now.at) // _MINUTE) + _AHEAD
            found = most - (most - offset) % _WRAP
            return found if found >= 0 else None
        last = int(self.known.get("cgm_last", 0))
        turn = last - last % _WRAP
        if last % _WRAP - offset > _HALF and self._old_enough(turn + _WRAP + offset, received_at):
            return turn + _WRAP + offset
        if turn and offset - last % _WRAP > _HALF:
            turn -= _WRAP
        return turn + offset

    def doubt(self, sequence: int, received_at: datetime) -> str | None:
        """Why a record that was just taken may be another session's; None when it is where it should be."""
        if sequence < int(self.known.get("cgm_last", 0)):
            return "goes back"
        if self._now is None or (self._confirmed_at and received_at - self._confirmed_at < _CONFIRMED):
            return None
        expected = self._now.sequence + (received_at - self._now.at) // _MINUTE
        return "is not what the clock expects" if expected - sequence > _TOLERANCE else None

    def seen(self, sequence: int) -> Facts:
        """A record of the session."""
        return self._learn({"cgm_last": sequence} if sequence > int(self.known.get("cgm_last", 0)) else {})

    def anchor(self, sequence: int, received_at: datetime) -> Facts:
        """No start is known: a record that was just taken tells it."""
        return self._learn({"cgm_start": (received_at.astimezone(UTC) - sequence * _MINUTE).isoformat()})

    def moment(self, sequence: int) -> str:
        """ISO 8601 of a sequence; OverflowError outside the calendar."""
        return (datetime.fromisoformat(str(self.known["cgm_start"])) + sequence * _MINUTE).isoformat()

    def _learn(self, facts: Facts) -> Facts:
        self.known |= facts
        return facts

    def _accept(self, start: Start, moment: datetime) -> Facts:
        self._pending = None
        fresh: Facts = {"cgm_boot": start.boot, "cgm_start": moment.astimezone(UTC).isoformat(), "cgm_unclear": 0}
        return self._learn(fresh | {"cgm_also": 0, "cgm_stopped": 0, "cgm_last": 0, "cgm_begin": "", "cgm_back": ""})

    def _resolve(self, start: Start, now: Now) -> Facts:
        if "cgm_boot" not in self.known:
            return self._accept(start, start.moment or now.begin)
        sequence = self._current(now.sequence, now.at)
        found: Verdict = "next" if sequence is None else which_session(self.known, start.boot, Now(sequence, now.at))
        return self._take(start, found, now)

    def _take(self, start: Start, found: "Verdict", now: Now) -> Facts:
        if found == "next":
            return self._accept(start, start.moment or now.begin)
        if found == "same":
            self._pending, self._confirmed_at = None, now.at
            return self._learn({"cgm_unclear": 0, "cgm_also": start.boot})
        return {}

    def _current(self, offset: int, received_at: datetime) -> int | None:
        """The sequence of an offset that is now: the next one from the highest known on. None where it went back."""
        last = int(self.known.get("cgm_last", 0))
        least = max(0, last - _AHEAD)
        found = least + (offset - least) % _WRAP
        far = found - last > _HALF and found >= _WRAP
        return None if far and not self._old_enough(found, received_at) else found

    def _old_enough(self, sequence: int, received_at: datetime) -> bool:
        begin = self.known.get("cgm_begin") or self.known.get("cgm_start")
        age = received_at - datetime.fromisoformat(str(begin)) if begin else timedelta()
        return age + timedelta(hours=1) >= sequence * _MINUTE


Verdict = Literal["same", "next", "unclear"]


def which_session(known: Mapping[str, int | str], boot: int, now: Now) -> Verdict:
    """Is the session with this start the known one, its start written anew, or the next? Two witnesses: the digits of
    the starts, and where the patch is by this gateway's clock. Where they contradict each other it is unclear.
    """
    begin = known.get("cgm_begin")
    if not begin:
        return _by_digits(known, boot)
    last = int(known.get("cgm_last", 0))
    shift = (now.begin - datetime.fromisoformat(str(begin))) / _MINUTE
    moved = shift > _TOLERANCE and shift >= last - _TOLERANCE
    later = clock(boot) >= clock(int(known["cgm_boot"])) + last * _MINUTE
    if later == moved:
        return "next" if later else "same"
    return "same" if later and abs(shift) <= _TOLERANCE else "unclear"


def _by_digits(known: Mapping[str, int | str], boot: int) -> Verdict:
    """Without a clock: the next begins after the last record of the one before; an hour at least after its start, as a
    collector's clock may be wrong, unless that one's end was seen.
    """
    last = int(known.get("cgm_last", 0))
    elapsed = last if known.get("cgm_stopped") else max(last, _LEAST_SESSION)
    return "next" if clock(boot) >= clock(int(known["cgm_boot"])) + elapsed * _MINUTE else "same"


def last_of_session(before: Mapping[str, int | str], after: Mapping[str, int | str]) -> int:
    """The highest sequence that the session of `before` can have had, given the one that followed it."""
    starts = [datetime.fromisoformat(str(facts["cgm_start"])) for facts in (before, after)]
    most = int(before.get("cgm_stopped", 0)) or int((starts[1] - starts[0]) / _MINUTE) - 1
    if hours := int(before.get("cgm_run_time", 0)):
        most = min(most, 60 * hours)
    return max(most, int(before.get("cgm_last", 0)))


def sequence_at(facts: Mapping[str, int | str], moment: datetime) -> int:
    """Where the session was at a moment, at least 0."""
    start = datetime.fromisoformat(str(facts["cgm_start"]))
    return max(0, int((moment - start) / _MINUTE))


def clock(boot: int) -> datetime:
    """The patch's own clock in the digits of a session start."""
    return datetime.strptime(str(_digits(boot)), "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _digits(boot: int) -> int:
    return int(str(boot)[:_DIGITS])


def shown(known: Mapping[str, Any]) -> str:
    """Why nothing is stored while it is unclear which session this is."""
    what = "its time offset went back" if known.get("cgm_back") else "another session start was read"
    return (
        f"{what} than that of session {known.get('cgm_boot')}, and it is not clear whether it is another session: it is"
        " looked at again; if it stays so, check the date of this gateway and of the patch's own reader"
    )

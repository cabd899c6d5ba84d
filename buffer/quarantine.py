"""What could not be used: kept sealed, with its reason, within bounds."""

from base64 import b64encode
from typing import NamedTuple

from schemas.base import Count, DateTime, Model, Text

# In the place of the reason of an entry that cannot be read.
DAMAGED = "this entry does not open under its key: it is damaged"
KEPT_PAYLOAD = 16_384
# So that many tiny entries are bounded like few large ones.
_LEAST_OCTETS = 1_024


class Quarantined(Model):
    """One entry. `payload` is base64 of at most 16 KiB; `length` is what it had."""

    sender: Text
    reason: Text
    channel: Text
    received_at: DateTime
    payload: str
    length: Count

    def identity(self) -> str:
        """Two entries of equal identity are one entry, seen twice (a redelivery after a crash)."""
        return f"{self.sender}|{self.reason}|{self.channel}|{self.length}|{self.payload}"


def printable(text: str) -> str:
    """Text from outside as it may stand on a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def entry(sender: str, reason: str, channel: str, received_at: DateTime, payload: bytes) -> Quarantined:
    """An entry for these octets, cut to what is kept; sender and reason are bounded too."""
    return Quarantined(
        sender=printable(sender)[:255],
        reason=printable(reason)[:1_000],
        channel=channel[:255],
        received_at=received_at,
        payload=b64encode(payload[:KEPT_PAYLOAD]).decode(),
        length=len(payload),
    )


class Limits(NamedTuple):
    """64 MiB in all, 1,000 entries per sender."""

    octets: int = 64 << 20
    per_sender: int = 1_000

    def octets_of(self, length: int) -> int:
        return max(length, _LEAST_OCTETS)

    def allow(self, entries_of_sender: int, octets: int) -> bool:
        return entries_of_sender < self.per_sender and octets <= self.octets

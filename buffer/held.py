"""An event from before the clock was right, with the boot and the monotonic time at which it was captured."""

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from buffer.errors import SealError
from buffer.folding import fold, unfold
from buffer.lanes import Lane
from buffer.sealing import Dek
from schemas.wire import WireEvent

# Its data key is of no day.
UNKNOWN_DAY = "unknown"
# In the place of a lane, so that no held row is taken for one of the queue.
HELD = 128
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Moment(NamedTuple):
    """Now, on a clock that only goes forward: seconds since a boot."""

    boot: str
    monotonic: float


def moment_now() -> Moment:
    """Of this boot, suspended seconds too."""
    return Moment(_BOOT_ID.read_text(encoding="ascii").strip(), time.clock_gettime(time.CLOCK_BOOTTIME))


class Held(NamedTuple):
    """`at`: when it was captured. `captured`: the wrong time of day that was then, wherever the event has it."""

    row: int
    lane: Lane
    device_ref: int
    at: Moment
    captured: datetime
    event: WireEvent


def seal_held(dek: Dek, event: WireEvent, lane: Lane, now: tuple[Moment, datetime], captured: datetime) -> bytes:
    """`now`: the moment, and the (wrong) time of day at it."""
    moment, wall = now
    monotonic = moment.monotonic - (wall - captured) / timedelta(seconds=1)
    head = f"{moment.boot} {monotonic!r} {captured.isoformat()}\n".encode()
    return dek.seal(head + fold(event, dek.words or ()), HELD + lane)


def open_held(dek: Dek, row: int, lane: Lane, device_ref: int, sealed: bytes) -> Held:
    """The inverse of `seal_held`; SealError for anything else."""
    head, _, folded = dek.open(sealed, HELD + lane).partition(b"\n")
    try:
        boot, monotonic, captured = head.decode("ascii").split(" ")
        at = Moment(boot, float(monotonic))
        return Held(row, lane, device_ref, at, datetime.fromisoformat(captured), unfold(folded, dek.words or ()))
    except ValueError:
        raise SealError("a held row cannot be read") from None

"""An event from before the clock was right, with the boot and the monotonic time at which it was captured."""

import os
import time
import uuid
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
# Where neither says which boot this is: another one for each process, which tells nothing of times.
_THIS_PROCESS = uuid.uuid4().hex


class Moment(NamedTuple):
    """Now, on a clock that only goes forward: seconds since a boot."""

    boot: str
    monotonic: float


def moment_now() -> Moment:
    """Of this boot, suspended seconds too."""
    return Moment(_boot_id(), time.clock_gettime(time.CLOCK_BOOTTIME))


def _boot_id() -> str:
    """As the unit says it, whose sandbox hides the kernel's file, or as that does: both alike."""
    try:
        found = os.environ.get("PATCH_GATEWAY_BOOT_ID") or _BOOT_ID.read_text(encoding="ascii")
    except OSError:
        found = _THIS_PROCESS
    return found.strip().replace("-", "")


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

"""Runs in the guest: the buffer without the daemon. Events with a number go in, and those that are durable are printed,
until the medium fails: then it ends as the daemon does.

`keeper.py [MUTANT]`: a mutant is a buffer that is wrong. A test that does not see what it loses proves nothing.
"""

import asyncio
import os
import sys
from pathlib import Path

from agent.ending import end_at_once
from buffer import database
from buffer.errors import MediumError
from buffer.lanes import Lane
from buffer.store import EventBuffer
from buffer.writer import Writer
from schemas.wire import WireEvent

DATABASE = Path("/var/lib/patch-gateway/buffer.db")
AT_ONCE, PAUSE = 100, 0.2
WAL_FULL = 4 << 20


def no_fadvise():
    """After a failed write it believes what the kernel holds."""
    os.posix_fadvise = lambda *_: None


def no_flush():
    """It believes what it finds although the disk may still forget it."""
    os.fsync = lambda _descriptor: None


def no_statvfs():
    """It believes a COMMIT on a file system that became read-only."""
    real = os.statvfs

    def writable(path):
        found = list(real(path))
        found[8] &= ~os.ST_RDONLY
        return os.statvfs_result(found)

    os.statvfs = writable


def full_is_fine():
    """It takes a full disk for one that has stored."""
    real = Writer._try

    async def stored(self, statements):
        await real(self, statements)
        return True

    Writer._try = stored


def normal():
    """A commit is in the WAL, but not on the medium."""
    real = database.open_writer

    async def open_writer(*arguments):
        connection = await real(*arguments)
        await connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    database.open_writer = open_writer


MUTANTS = {made.__name__: made for made in (no_fadvise, no_flush, no_statvfs, full_is_fine, normal)}


def append(number, filler):
    key = f"keeper.sensor.1.{number}"
    event = WireEvent(key, b'{"idempotency_key":"%s","filler":"%s"}' % (key.encode(), filler.hex().encode()))
    return lambda draft: draft.append(event, Lane.SENSOR)


async def keep(buffer, last, octets):
    """One group; its last number."""
    numbers = range(last + 1, last + AT_ONCE + 1)
    await asyncio.gather(*(buffer.submit(append(n, os.urandom(octets)), now=n == numbers[-1]) for n in numbers))
    print(numbers[-1], flush=True)
    return numbers[-1]


async def main():
    buffer = await EventBuffer.open(DATABASE, bytes(32), gateway_id="gw-keeper")
    last = buffer.lanes[Lane.SENSOR]
    print("from", last, flush=True)
    if last:  # what is found is as good as acknowledged: time for a power cut
        await asyncio.sleep(2)
    # A WAL that has the size that it keeps: where no file has to grow, a file system complains last.
    while os.stat(f"{DATABASE}-wal").st_size < WAL_FULL:  # noqa: PTH116 - nothing else runs
        last = await keep(buffer, last, 3_000)
    print("wal full", flush=True)
    while True:
        last = await keep(buffer, last, 2_000)
        await asyncio.sleep(PAUSE)


for name in sys.argv[1:]:
    MUTANTS[name]()
try:
    asyncio.run(main())
except MediumError as error:
    end_at_once(error)

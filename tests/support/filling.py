"""Append, claim and forget until the medium fails: `filling.py FOLDER COMMITS`; begins when it is told to."""

import asyncio
import os
import sys
from pathlib import Path

from buffers import EVENTS, append, open_buffer

from buffer.errors import MediumError
from buffer.lanes import Lane


async def main(folder: Path, commits: int) -> None:
    buffer = await open_buffer(folder, tick=0.005)
    print("open", flush=True)
    sys.stdin.readline()
    try:
        for _ in range(commits):
            await buffer.submit(append(EVENTS[:500]), now=True)
            claim = await buffer.claim(Lane.SENSOR, 500, 1 << 20)
            await buffer.submit(lambda draft, rows=claim.rows: draft.forget(rows, Lane.SENSOR), now=True)
            buffer.release(Lane.SENSOR, claim.rows)
    except MediumError as error:
        print(f"MediumError: {error}", flush=True)
    os._exit(0)  # nothing is closed


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))

"""Group commit: how large a group is, and how long it waits."""

import asyncio
import os
from itertools import islice

from synthetic import wire_events

from buffer.lanes import Lane
from buffer.store import EventBuffer

EVENTS = list(islice(wire_events(7), 1_200))


def append(event):
    return lambda draft: draft.append(event, Lane.SENSOR)


async def test_groups_follow_the_disk(tmp_path, monkeypatch):
    """On a slow disk what arrives during a commit makes the next group larger, and the tick longer; then back again."""
    buffer = await EventBuffer.open(tmp_path / "b.db", os.urandom(32), gateway_id="gw-test", tick=0.01)
    writer, seconds, sizes = buffer._writer, 0.1, []
    real, decide = writer._try, writer._attempt

    async def slow(statements):
        await asyncio.sleep(seconds)
        return await real(statements)

    async def counted(group):
        sizes.append(len(group))
        return await decide(group)

    monkeypatch.setattr(writer, "_try", slow)
    monkeypatch.setattr(writer, "_attempt", counted)
    assert writer.cap == 200
    futures = [buffer.submit(append(event)) for event in EVENTS[:1_000]]
    await asyncio.sleep(0.05)  # the first group is on its way
    futures += [buffer.submit(append(event)) for event in EVENTS[:200]]
    await asyncio.gather(*futures)
    assert sizes[0] == 200
    assert max(sizes) == 800, "four times what came during a commit"
    assert sum(sizes) == 1_200
    assert writer.tick > 0.1
    seconds = 0.0
    for event in EVENTS[:12]:
        await buffer.submit(append(event), now=True)
    assert writer.cap == 200
    assert writer.tick < 0.1
    assert buffer.lanes[Lane.SENSOR] == 1_212
    await buffer.close()

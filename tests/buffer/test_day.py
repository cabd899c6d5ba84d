"""Hours of work in little time: 50 events a second, an outage of the upstream every hour; nothing grows without end."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from pathlib import Path

import pytest

HOURS = int(os.environ.get("TEST_HOURS", "2"))
TICK, RATE, OUTAGE = 0.8, 50, 1_200
START = datetime(2026, 11, 24, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now


def resident():
    """Octets."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def work(folder, hours):
    """What the buffer takes at the end of each hour, when the backlog of its outage is gone."""
    from synthetic import wire_events

    from buffer.lanes import Lane
    from buffer.store import EventBuffer

    clock = Clock()
    buffer = await EventBuffer.open(folder / "b.db", os.urandom(32), gateway_id="gw", clock=clock)
    events, found, stored, delivered = cycle(list(islice(wire_events(7), 5_000))), [], 0, 0
    for hour in range(hours):
        largest = 0
        for tick in range(int(3_600 / TICK)):
            part = list(islice(events, int(RATE * TICK)))
            await buffer.submit(lambda draft, part=part: [draft.append(e, Lane.SENSOR) for e in part], now=True)
            stored += len(part)
            clock.now += timedelta(seconds=TICK)
            largest = max(largest, buffer.lanes[Lane.SENSOR])
            if tick * TICK < OUTAGE:
                continue
            claim = await buffer.claim(Lane.SENSOR, 100, 1 << 20)
            await buffer.submit(lambda draft, rows=claim.rows: draft.forget(rows, Lane.SENSOR), now=True)
            buffer.release(Lane.SENSOR, claim.rows)
            delivered += len(claim.rows)
        unused = await buffer.look.unused_deks(f"{clock.now:%Y-%m-%d}")
        await buffer.submit(lambda draft, unused=unused: draft.retire_deks(unused), now=True)
        found.append({
            "hour": hour + 1, "rows": buffer.lanes[Lane.SENSOR], "largest": largest,
            "file": (folder / "b.db").stat().st_size, "wal": (folder / "b.db-wal").stat().st_size,
            "resident": resident(),
        })  # fmt: skip
        print(json.dumps(found[-1]), flush=True)
    assert stored == delivered + buffer.lanes[Lane.SENSOR]
    await buffer.close()


@pytest.mark.heavy
@pytest.mark.timeout(300 * HOURS)
def test_nothing_grows(tmp_path):
    command = [sys.executable, __file__, tmp_path, str(HOURS)]
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "benchmarks")]
    environment = {**os.environ, "PYTHONPATH": ":".join(paths)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    hours = [json.loads(line) for line in done.stdout.splitlines()]
    print(done.stdout)
    assert len(hours) == HOURS
    first, last = hours[0], hours[-1]
    assert last["largest"] > OUTAGE * RATE * 0.9, "an outage fills it"
    assert last["rows"] < 1_000, "and it is empty again"
    assert last["file"] <= first["file"] * 1.05
    assert max(hour["wal"] for hour in hours) < 9 << 20
    assert last["resident"] < first["resident"] * 1.1


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), int(sys.argv[2])))

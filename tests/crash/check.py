"""Opens what a power cut left with the product's own code, and judges it."""

import base64
import json
import sqlite3
from collections import Counter
from dataclasses import dataclass, field

from recording import said_by
from workload import GATEWAY, frame_of, key_of, marked, open_buffer

from agent.counters import Counters
from agent.ingest import Ingest
from buffer.errors import StoreError
from buffer.lanes import Lane
from device_drivers.links.base import Batch


@dataclass
class Known:
    """What the world knows at the moment of the cut: links, upstream, people."""

    sent: dict = field(default_factory=dict)
    acked: set = field(default_factory=set)
    overflowed: int = 0
    delivered: set = field(default_factory=set)
    markers: dict = field(default_factory=dict)
    paired: dict = field(default_factory=dict)
    wears: Counter = field(default_factory=Counter)

    def resent(self):
        """What links send again: all that was not acknowledged, and some that was, of wears that go on."""
        current = [name for name in self.sent if self._goes_on(name)]
        return [name for name in current if name not in self.acked] + [n for n in current[-25:] if n in self.acked]

    def _goes_on(self, name):
        sender, _, damaged = name.partition(" ")
        if damaged:  # another reason to set it aside, once its patch is unpaired
            return self.paired.get(sender, True) is True
        patch, _, boot, _ = name.split(".")
        return self.paired[patch] is True and self.wears[patch] == int(boot)


def known_at(said, operations):
    known = Known()
    for what in said_by(said, operations):
        known.sent.update(dict.fromkeys(what.get("sent", ())))
        known.acked.update(what.get("acked", ()))
        known.overflowed += what.get("overflowed", 0)
        known.delivered.update(what.get("delivered", ()))
        known.markers.update(what.get("markers", {}))
        for name, state in (("pairing", None), ("unpairing", None), ("paired", True), ("unpaired", False)):
            if name in what:
                known.paired[what[name]] = state
                known.wears[what[name]] += name == "pairing"
    return known


@dataclass
class Verdict:
    """What is wrong with one state, in words by kind."""

    lost: list = field(default_factory=list)
    doubled: list = field(default_factory=list)
    corrupt: list = field(default_factory=list)

    def __bool__(self):
        return bool(self.lost or self.doubled or self.corrupt)


async def judge(folder, kek, known, *, swap):
    """The verdict on the database in `folder`."""
    verdict = Verdict()
    try:
        buffer = await open_buffer(folder / "buffer.db", kek)
    except (StoreError, sqlite3.Error, ValueError) as error:
        verdict.corrupt.append(f"it does not open: {error!r}")
        return verdict
    try:
        await _first_look(buffer, known, verdict)
        await _sent_again(buffer, known, verdict)
    except Exception as error:
        verdict.corrupt.append(f"it cannot be read: {error!r}")
    finally:
        await buffer.close()
    if swap and not verdict:
        await _swapped(folder, kek, verdict)
    return verdict


async def _first_look(buffer, known, verdict):
    found = await Found.of(buffer)
    verdict.corrupt += found.damaged
    _judge_places(found, known, known.acked, verdict)
    for patch, paired in known.paired.items():
        if paired is not None and (patch in buffer.devices) is not paired:
            verdict.lost.append(f"{patch} was {'' if paired else 'un'}paired")


async def _sent_again(buffer, known, verdict):
    names = known.resent()
    future, _ = Ingest(buffer, GATEWAY, Counters()).receive(Batch([frame_of(name) for name in names]), "mqtt")
    own = []
    await buffer.submit(lambda draft: own.append(draft.own_key()), now=True)
    fates = await future
    over = {name for name, fate in zip(names, fates, strict=True) if fate[0] == "overflowed"}
    known.overflowed += len(over)
    found = await Found.of(buffer)
    _judge_places(found, known, known.acked | set(names) - over, verdict)
    if own[0] in known.delivered or own[0] in found.rows:
        verdict.doubled.append(f"the key {own[0]} is given again")


def _judge_places(found, known, expected, verdict):
    missing = expected - found.rows.keys() - known.delivered - found.set_aside.keys()
    # A refusal of the upstream that a full quarantine could not keep is counted, not named.
    refusable = {name for name in missing if ".sensor." in name and name in known.acked}
    uncounted = known.overflowed + len(refusable) - found.overflow - sum({**known.markers, **found.markers}.values())
    verdict.lost += sorted(missing - refusable) or ([f"{uncounted} that nothing names"] if uncounted > 0 else [])
    verdict.doubled += [f"{name} twice in the queue" for name, times in found.rows.items() if times > 1]
    verdict.doubled += [f"{name} twice set aside" for name, times in found.set_aside.items() if times > 1]
    verdict.doubled += [f"{name} in the queue and set aside" for name in found.rows.keys() & found.set_aside.keys()]


@dataclass
class Found:
    """What is in a buffer."""

    rows: Counter
    markers: dict
    set_aside: Counter
    overflow: int
    damaged: list

    @classmethod
    async def of(cls, buffer):
        rows, markers, damaged = Counter(), {}, []
        for lane in Lane:
            claim = await buffer.claim(lane, 100_000, 1 << 30)
            rows.update(event.idempotency_key for event in claim.events)
            markers |= {e.idempotency_key: marked(e.body) for e in claim.events if b'"gap_marker"' in e.body}
            damaged += [f"row {row} of lane {lane.name} does not open" for row, _ in claim.damaged]
            buffer.release(lane, [*claim.rows, *(row for row, _ in claim.damaged)])
        held, unread = await buffer.look.held_rows(100_000)
        rows.update(item.event.idempotency_key for item in held)
        markers |= {item.event.idempotency_key: marked(item.event.body) for item in held}
        damaged += [f"held row {row} does not open" for row, _ in unread]
        lost = sum(each.count for each in buffer.lost.values())
        entries = await buffer.look.quarantine_entries(100_000)
        set_aside = Counter(name_of(item) for _, _, item in entries)
        return cls(rows, markers, set_aside, lost + sum(buffer.overflow.values()), damaged)


def name_of(item):
    """Under which name the world knows a quarantined thing."""
    body = json.loads(base64.b64decode(item.payload))
    if "idempotency_key" in body:
        return body["idempotency_key"]
    damaged = next((name for name in body if name.startswith("damaged-")), None)
    if damaged:
        return f"{body['device_id']} {damaged}"
    return key_of(body["device_id"], body["boot"], body["sequence"])


async def _swapped(folder, kek, verdict):
    """A row that got into another lane must not be served there."""
    with sqlite3.connect(folder / "buffer.db") as connection:
        row = connection.execute("SELECT max(id) FROM event WHERE lane = ?", (int(Lane.SENSOR),)).fetchone()[0]
        connection.execute("UPDATE event SET lane = ? WHERE id = ?", (int(Lane.TELEMETRY), row))
    connection.close()
    buffer = await open_buffer(folder / "buffer.db", kek)
    if row in (await buffer.claim(Lane.TELEMETRY, 100_000, 1 << 30)).rows:
        verdict.corrupt.append(f"row {row} is served in a lane it was not sealed for")
    await buffer.close()

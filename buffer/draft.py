"""One transaction being decided: plain functions change a Draft, the writer commits it."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic_core import to_json

from buffer.devices import DeviceRecord, Former, words_of
from buffer.errors import SealError
from buffer.held import UNKNOWN_DAY, Held, Moment, seal_held
from buffer.keys import KEY_LENGTH, KeyRing
from buffer.lanes import Lane
from buffer.lost import Lost
from buffer.marks import Mark
from buffer.quarantine import Limits, Quarantined, entry
from buffer.sealing import CURRENT_DICTIONARY, Dek
from buffer.state import GATEWAY_REF, KEPT_NUMBERS, REGISTRY_DAY, Entry, Journal, MarkKey, State, Waiting
from buffer.statements import (
    DELETE_EVENT,
    INSERT_DEK,
    INSERT_EVENT,
    INSERT_HELD,
    INSERT_QUARANTINE,
    OVERFLOW,
    PUT_DEVICE,
    PUT_LOST,
    PUT_MARK,
    SEEN_AGAIN,
    TABLES_WITH_DEK,
    Op,
    Statements,
    grouped,
)
from schemas.wire import WireEvent

T = TypeVar("T")
Decide = Callable[["Draft"], T]

MAX_WAITING = 100
_BOOTS_KEPT = 8
# Senders whose losses are counted one by one; the rest are counted together.
_MAX_OVERFLOWING = 1_000


@dataclass(frozen=True, slots=True)
class Point:
    """Where to go back to."""

    journal: int
    ops: int


def mark_key(state: State, keys: KeyRing, device_id: str, stream: str, boot: int) -> MarkKey:
    """The (blind) key of one stream of a paired patch."""
    ref = state.devices[device_id].ref
    return MarkKey(ref, stream, keys.blind("boot", f"{ref}|{stream}|{boot}")[:8])


def dek_context(dek_id: int, device_ref: int, day: str, epoch: int, dict_id: int) -> bytes:
    """What a wrapped DEK is bound to."""
    return f"{dek_id}|{device_ref}|{day}|{epoch}|{dict_id}".encode()


class Draft:
    """Reads see this draft's own changes. Nothing here waits or fails for the disk's sake."""

    def __init__(self, state: State, keys: KeyRing, limits: Limits, now: datetime) -> None:
        self.now = self._commit_now = now.astimezone(UTC)
        self._today = f"{self.now:%Y-%m-%d}"
        self._moment: Moment | None = None
        self._state, self._keys, self._limits = state, keys, limits
        self._journal = Journal()
        self._ops: list[Op] = []
        self._touched_marks: dict[MarkKey, None] = {}
        self._touched_devices: dict[str, None] = {}
        self._touched_lost: dict[str | None, None] = {}
        self._before = {name: state.numbers[name] for name in KEPT_NUMBERS}

    def hold(self, clocks: tuple[Moment, datetime] | None) -> None:
        """From here on events are held for the clock, `clocks` being what both said when they came; None: sent."""
        self._moment, now = clocks or (None, self._commit_now)
        self.now = now.astimezone(UTC)

    # events

    def append(
        self, event: WireEvent, lane: Lane, device_id: str | None = None, captured: datetime | None = None
    ) -> None:
        """Seal one event under its patch's key of today; the gateway's own key without a (paired) patch.

        While the clock is not right it is held: `captured` (else `now`) is the time in it that this clock told.
        """
        if self._moment is not None:
            dek = self._dek_of(device_id, UNKNOWN_DAY)
            sealed = seal_held(dek, event, lane, (self._moment, self.now), captured or self.now)
            self._ops.append(Op(INSERT_HELD, (lane, dek.id, sealed)))
            self._count(self._state.numbers, "held", 1)
            return
        dek = self._dek_of(device_id, self._today)
        self._insert(event, lane, dek)

    def release(self, released: Sequence[tuple[Held, WireEvent, datetime]]) -> None:
        """Put held events, now with their right times, into the queue, each under the key of the day it was received
        on. All are taken out first: in a full buffer they go where they were.
        """
        for held, _, _ in released:
            self.drop_held(held.row)
        records = {entry.ref: entry.record for entry in self._state.devices.values()}
        for held, event, received in released:
            day = f"{received.astimezone(UTC):%Y-%m-%d}"
            self._insert(event, held.lane, self._dek(held.device_ref, day, records.get(held.device_ref)))

    def drop_held(self, row: int) -> None:
        """Take a held row out; in this same transaction it is put where it belongs."""
        self._ops.append(Op("DELETE FROM held WHERE id = ?", (row,)))
        self._count(self._state.numbers, "held", -1)

    def _insert(self, event: WireEvent, lane: Lane, dek: Dek) -> None:
        # Never a row's number again while the process lives: whoever still has the old one must not mean the new.
        row = self._count(self._state.numbers, "last_event", 1)
        self._ops.append(Op(INSERT_EVENT, (row, lane, dek.id, dek.seal_event(event, lane))))
        self._count(self._state.lanes, lane, 1)

    def own_key(self) -> str:
        """The next idempotency key of an event the gateway makes itself."""
        number = self._count(self._state.numbers, "own", 1)
        return f"{self._state.gateway_id}.gateway.{self._state.epoch}.{number}"

    def add_record(
        self, device_id: str, stream: str, boot: int, sequence: int, step: int = 1
    ) -> list[tuple[int, int]] | None:
        """Note that this record of a paired patch is here; None when it was here before. Handed back are the holes, if
        any, that cannot be kept in mind any longer.
        """
        key = mark_key(self._state, self._keys, device_id, stream, boot)
        mark = self._state.marks.get(key)
        if mark is not None and mark.has(sequence):
            return None
        if mark is None:
            self._make_room(key)
            mark = Mark()
        added = mark.add(sequence, step)
        self._journal.set(self._state.marks, key, added)
        self._touched_marks[key] = None
        return [hole for hole in mark.holes(step) if hole[1] < added.floor] if added.floor > mark.floor else []

    def mark(self, device_id: str, stream: str, boot: int) -> Mark:
        """Which records of one stream of a paired patch are here."""
        return self._state.marks.get(mark_key(self._state, self._keys, device_id, stream, boot), Mark())

    def settle(self, device_id: str, stream: str, boot: int) -> None:
        """Nothing will fill the holes of a stream any more: they are not asked for again."""
        key = mark_key(self._state, self._keys, device_id, stream, boot)
        mark = self._state.marks.get(key)
        if mark:
            self._journal.set(self._state.marks, key, mark.settle())
            self._touched_marks[key] = None

    def forget(self, rows: Iterable[int], lane: Lane) -> None:
        """Delete delivered rows."""
        deleted = [Op(DELETE_EVENT, (row,)) for row in rows]
        self._ops += deleted
        self._count(self._state.lanes, lane, -len(deleted))

    # registry

    @property
    def devices(self) -> Mapping[str, Entry]:
        return self._state.devices

    def device(self, device_id: str) -> DeviceRecord | None:
        known = self._state.devices.get(device_id)
        return known.record if known else None

    def put_device(self, record: DeviceRecord) -> None:
        """Pair a patch, or store what changed of it."""
        known = self._state.devices.get(record.device_id)
        ref = known.ref if known else self._count(self._state.numbers, "last_ref", 1)
        dek = known.dek if known else self._dek(ref, REGISTRY_DAY)
        self._journal.set(self._state.devices, record.device_id, Entry(ref, dek, record))
        self._touched_devices[record.device_id] = None

    def remove_device(self, device_id: str) -> list[bytes]:
        """Unpair; the reports that still waited are handed back, for the caller to set aside."""
        ref = self._state.devices[device_id].ref
        left = self.take_waiting(device_id)
        self._journal.remove_all(self._state.marks, [key for key in self._state.marks if key.device_ref == ref])
        self._remember_wear(device_id)
        self._journal.remove(self._state.devices, device_id)
        self._journal.remove(self._state.deks, (ref, REGISTRY_DAY))
        self._ops.append(Op("DELETE FROM dek WHERE device_ref = ? AND day = ?", (ref, REGISTRY_DAY)))
        for table, column in (("device", "ref"), ("mark", "device_ref")):
            self._ops.append(Op(f"DELETE FROM {table} WHERE {column} = ?", (ref,)))
        return left

    def former(self, device_id: str) -> Former | None:
        """Who wore this patch before, if it was paired here."""
        return self._state.former.get(device_id)

    def _remember_wear(self, device_id: str) -> None:
        record = self._state.devices[device_id].record
        former = Former(
            device_id=device_id, patient=record.patient, until=self.now, not_before=record.not_before,
            facts=record.facts,
        )  # fmt: skip
        dek = self._dek(GATEWAY_REF, self._today)
        blind = self._keys.blind("device", device_id)
        self._journal.set(self._state.former, device_id, former)
        self._ops.append(
            Op("INSERT OR REPLACE INTO former VALUES (?, ?, ?)", (blind, dek.id, dek.seal(former.to_json())))
        )

    # adhesion reports that wait for their application

    def wait(self, device_id: str, report: bytes) -> bool:
        """Keep one report, sealed; False when this patch has 100 already."""
        ref = self._state.devices[device_id].ref
        before = self._state.waiting.get(ref, ())
        if len(before) >= MAX_WAITING:
            return False
        dek = self._dek_of(device_id, self._today)
        kept = Waiting(dek, dek.seal(report))
        self._journal.set(self._state.waiting, ref, (*before, kept))
        self._ops.append(
            Op("INSERT INTO waiting(device_ref, dek_id, sealed) VALUES (?, ?, ?)", (ref, dek.id, kept.sealed))
        )
        return True

    def take_waiting(self, device_id: str) -> list[bytes]:
        """All waiting reports of a patch, oldest first, taken out."""
        ref = self._state.devices[device_id].ref
        items = self._state.waiting.get(ref, ())
        if items:
            self._journal.remove(self._state.waiting, ref)
            self._ops.append(Op("DELETE FROM waiting WHERE device_ref = ?", (ref,)))
        taken = []
        for item in items:
            try:
                taken.append(item.dek.open(item.sealed))
            except SealError:
                reason = "a waiting adhesion report does not open under its key"
                self.quarantine(entry(device_id, reason, "buffer", self.now, item.sealed))
        return taken

    # quarantine

    def quarantine(self, item: Quarantined, *, keep: bool = True) -> bool:
        """Keep what could not be used, with its reason. False when the bound is reached, or not to `keep`: then it is
        counted, durably, and a gap marker will name it.
        """
        sender = self._keys.blind("sender", item.sender)
        digest = self._keys.blind("quarantine", item.identity())
        state = self._state
        if digest in state.quarantine:
            self._ops.append(Op(SEEN_AGAIN, (digest,)))
            return True
        dek = self._dek(GATEWAY_REF, self._today)
        sealed = dek.seal(item.to_json())
        octets = self._limits.octets_of(len(sealed))
        if not keep or not self._limits.allow(
            state.senders.get(sender, 0), state.numbers.get("quarantine_octets", 0) + octets
        ):
            name = item.sender
            if sender not in state.overflow and len(state.overflow) >= _MAX_OVERFLOWING:
                name = "(many senders)"
                sender = self._keys.blind("sender", name)
            about = dek.seal(to_json({"sender": name}))
            stamp = self.now.isoformat()
            self._ops.append(Op(OVERFLOW, (sender, stamp, stamp, dek.id, about)))
            self._count(state.overflow, sender, 1)
            return False
        row = self._count(self._state.numbers, "last_entry", 1)
        self._ops.append(Op(INSERT_QUARANTINE, (row, digest, sender, dek.id, sealed)))
        self._journal.set(state.quarantine, digest, (sender, octets))
        self._count(state.senders, sender, 1)
        self._count(state.numbers, "quarantine_octets", octets)
        return True

    def take_quarantined(self, item: Quarantined) -> bool:
        """Take an entry out; False when it is not there any more."""
        return self.drop_quarantined(self._keys.blind("quarantine", item.identity()))

    def drop_quarantined(self, digest: bytes) -> bool:
        """Take out what is known by this digest; False when it is not there any more."""
        known = self._state.quarantine.get(digest)
        if known is None:
            return False
        sender, octets = known
        self._journal.remove(self._state.quarantine, digest)
        self._ops.append(Op("DELETE FROM quarantine WHERE digest = ?", (digest,)))
        self._count(self._state.senders, sender, -1)
        self._count(self._state.numbers, "quarantine_octets", -octets)
        return True

    def overflow(self, sender: bytes) -> int:
        """How many entries of a (blind) sender were not kept."""
        return self._state.overflow.get(sender, 0)

    def clear_overflow(self, sender: bytes) -> None:
        """A gap marker in this same transaction names what was not kept."""
        self._journal.remove(self._state.overflow, sender)
        self._ops.append(Op("DELETE FROM overflow WHERE sender = ?", (sender,)))

    def retire_deks(self, rows: Iterable[int]) -> None:
        """Delete data keys that no row needs any more; one that is needed again in this transaction stays."""
        retired = set(rows)
        for key in [key for key, dek in self._state.deks.items() if dek.id in retired]:
            self._journal.remove(self._state.deks, key)
        unused = " AND ".join(f"NOT EXISTS (SELECT 1 FROM {table} WHERE dek_id = dek.id)" for table in TABLES_WITH_DEK)
        self._ops += [Op(f"DELETE FROM dek WHERE id = ? AND {unused}", (row,)) for row in retired]

    # what is given up

    def give_up(self, lost: Lost) -> None:
        """These events leave in this transaction, for ever: kept in mind until a gap marker names them."""
        self._journal.set(self._state.lost, lost.device_id, lost.and_also(self._state.lost.get(lost.device_id)))
        self._touched_lost[lost.device_id] = None

    def take_lost(self) -> list[Lost]:
        """All of it; gap markers in this same transaction name it."""
        taken = list(self._state.lost.values())
        for lost in taken:
            self._journal.remove(self._state.lost, lost.device_id)
        if taken:
            self._ops.append(Op("DELETE FROM lost", ()))
        return taken

    # for the writer

    def point(self) -> Point:
        return Point(self._journal.point, len(self._ops))

    def back_to(self, point: Point) -> None:
        """Take back what was decided since."""
        self._journal.back_to(point.journal)
        del self._ops[point.ops :]

    def statements(self) -> Statements:
        """All of it as SQL, runs of one statement together."""
        last = list(self._final_ops())  # may make a key, which goes before it
        return grouped((*self._ops, *last))

    def _final_ops(self) -> Iterable[Op]:
        """Rows written once per transaction however often they changed in it."""
        for device_id in self._touched_devices:
            known = self._state.devices.get(device_id)
            if known:
                blind = self._keys.blind("device", device_id)
                sealed = known.dek.seal(known.record.to_json())
                yield Op(PUT_DEVICE, (known.ref, blind, known.dek.id, sealed))
        for key in self._touched_marks:
            mark = self._state.marks.get(key)
            if mark:
                yield Op(PUT_MARK, (*key, mark.floor, mark.settled, mark.to_text()))
        for whose in self._touched_lost:
            lost = self._state.lost.get(whose)
            if lost:
                dek = self._dek(GATEWAY_REF, self._today)
                yield Op(PUT_LOST, (self._keys.blind("lost", whose or ""), dek.id, dek.seal(lost.to_json())))
        for name, before in self._before.items():
            if self._state.numbers[name] != before:
                yield Op("UPDATE meta SET value = ? WHERE key = ?", (self._state.numbers[name], name))

    def _dek_of(self, device_id: str | None, day: str) -> Dek:
        """The key of a (paired) patch for a day, else the gateway's own."""
        known = self._state.devices.get(device_id) if device_id else None
        return self._dek(known.ref, day, known.record) if known else self._dek(GATEWAY_REF, day)

    def _dek(self, device_ref: int, day: str, record: DeviceRecord | None = None) -> Dek:
        known = self._state.deks.get((device_ref, day))
        if known and known.dict_id == CURRENT_DICTIONARY:
            return known
        dek_id = self._count(self._state.numbers, "last_dek", 1)
        key = os.urandom(KEY_LENGTH)
        epoch = self._keys.epoch
        wrapped = self._keys.wrap(key, dek_context(dek_id, device_ref, day, epoch, CURRENT_DICTIONARY))
        dek = Dek(dek_id, key, words=words_of(self._state.gateway_id, day, record))
        row = (dek_id, device_ref, day, epoch, CURRENT_DICTIONARY, wrapped, dek.sealed_words())
        self._ops.append(Op(INSERT_DEK, row))
        self._journal.set(self._state.deks, (device_ref, day), dek)
        return dek

    def _make_room(self, new: MarkKey) -> None:
        """A stream keeps the marks of its newest boots only."""
        same = [key for key in self._state.marks if key[:2] == new[:2]]
        oldest = same[: max(0, len(same) + 1 - _BOOTS_KEPT)]
        if oldest:
            self._journal.remove_all(self._state.marks, oldest)
        for key in oldest:
            self._ops.append(Op("DELETE FROM mark WHERE device_ref = ? AND stream = ? AND boot = ?", tuple(key)))

    def _count(self, mapping: dict[Any, int], key: Any, by: int) -> int:
        total = mapping.get(key, 0) + by
        self._journal.set(mapping, key, total)
        return total

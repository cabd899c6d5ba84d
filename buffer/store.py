"""EventBuffer: submit decisions, claim rows to send, look at what is there."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import aiosqlite

from buffer import database
from buffer.draft import Decide, T, mark_key
from buffer.errors import MediumError, SealError
from buffer.held import Moment, moment_now
from buffer.keys import KeyRing
from buffer.lanes import Lane
from buffer.loading import load, quota_pages
from buffer.look import Look
from buffer.lost import Lost
from buffer.marks import Mark
from buffer.medium import Trouble, disk_octets, free_octets
from buffer.quarantine import Limits
from buffer.reserve import Reserve
from buffer.room import Level, Room
from buffer.scales import Scales
from buffer.state import Entry, State
from buffer.thinning import Part
from buffer.writer import Writer
from schemas.wire import WireEvent


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Claim:
    """Rows of one lane taken for sending, oldest first; `damaged` rows do not open and are handed over as they are."""

    lane: Lane
    rows: list[int] = field(default_factory=list)
    events: list[WireEvent] = field(default_factory=list)
    damaged: list[tuple[int, bytes]] = field(default_factory=list)


class EventBuffer:
    """The gateway's durable memory. Make one with `open`; one process at a time (InUseError)."""

    def __init__(
        self,
        path: Path,
        lock: database.Lock,
        connections: Sequence[aiosqlite.Connection],
        state: State,
        keys: KeyRing,
        writer: Writer,
    ) -> None:
        self._path, self._lock = path, lock
        self._connection, reader = connections
        self._state, self._keys, self._writer = state, keys, writer
        self.look = Look(path, reader, keys, writer.fail)
        self._in_flight: dict[Lane, set[int]] = {lane: set() for lane in Lane}
        self._leaving: set[int] = set()
        # One at a time looks for rows and takes them: what another takes meanwhile would be out of date.
        self._taking = asyncio.Lock()
        self._run = asyncio.create_task(writer.run(), name="buffer writer")
        self._run.add_done_callback(lambda task: task.cancelled() or task.exception())

    @classmethod
    async def open(
        cls,
        path: Path,
        kek: bytes,
        *,
        gateway_id: str,
        quota_octets: int = 1 << 30,
        limits: Limits = Limits(),
        tick: float = 0.8,
        cap: int = 4_000,
        clock: Callable[[], datetime] = _utc_now,
        moment: Callable[[], Moment] = moment_now,
        clock_is_right: Callable[[], bool] = lambda: True,
        reserve_octets: int = 0,
    ) -> Self:
        """Open or create; InUseError, SealError, SchemaError or MediumError say who must act. Events are held
        until `clock_is_right`; `moment` is another clock, which only goes forward.

        After a MediumError the process must end at once: nothing is closed, as that would write.
        """
        lock = database.Lock(path)
        opened: list[aiosqlite.Connection] = []
        try:
            reserve = Reserve(path, min(reserve_octets, disk_octets(path.parent) // 8))
            reserve.make_room(free_octets(path.parent))
            database.flush(path)
            database.drop_cached_pages(path)
            connection = await database.open_writer(path, quota_pages(quota_octets))
            opened.append(connection)
            keys = KeyRing(kek)
            state = await load(connection, keys, gateway_id, limits)
            opened.append(await database.open_reader(path))
            if not reserve.held and free_octets(path) >= 3 * reserve.octets:
                await asyncio.to_thread(reserve.take)
        except sqlite3.Error as error:
            lock.release()
            raise MediumError(f"{path} cannot be read: {error}") from error
        except BaseException as error:
            for connection in () if isinstance(error, MediumError) else opened:
                await connection.close()
            lock.release()
            raise
        writer = Writer(
            connection, path, state, keys, limits=limits, tick=tick, cap=cap, clock=clock, moment=moment,
            clock_is_right=clock_is_right,
            scales=Scales(path, quota_pages(quota_octets), reserve),
        )  # fmt: skip
        await writer.weigh()
        return cls(path, lock, opened, state, keys, writer)

    async def close(self) -> None:
        """Commit what is pending and close; MediumError, and nothing is closed, where the process must end at once."""
        self._writer.close()
        with contextlib.suppress(Exception):
            await self._run
        if self._writer.failure:
            raise self._writer.failure
        await self.look.connection.close()
        await self._connection.close()
        self._lock.release()

    # writing

    def submit(
        self, decide: Decide[T], *, now: bool = False, relief: bool = False, moves: bool = False
    ) -> asyncio.Future[T]:
        """Decide inside the next transaction; the future resolves when it is durable.

        `now`: before the tick. `relief`: it deletes rows, so a full disk must not make it wait. `moves`: it takes rows
        from the queue into quarantine.
        """
        return self._writer.submit(decide, now=now, relief=relief, moves=moves)

    def flush(self) -> None:
        self._writer.flush()

    async def failed(self) -> None:
        """Returns never, raises MediumError when the medium fails."""
        await self._writer.failed()

    def watch(self) -> None:
        """From now on `committed` notices commits."""
        self._writer.committed.clear()

    async def committed(self, seconds: float) -> None:
        """Wait for a commit after the last `watch`, `seconds` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._writer.committed.wait()

    # sending

    async def claim(self, lane: Lane, max_events: int, max_octets: int, *, after: int = 0) -> Claim:
        """The oldest rows of a lane, of those `after` a row, that are not on their way out already."""
        # The partial index serves a query only when its own condition stands in it.
        few = "" if lane is Lane.SENSOR else "AND lane <> 2"
        sql = f"SELECT id, dek_id, sealed FROM event WHERE lane = ? {few} AND id > ? ORDER BY id LIMIT ?"
        async with self._taking:
            # Before the look: what is deleted meanwhile is not taken any more, but may still be seen.
            taken = self._taken([lane])
            found = await self.look.rows(sql, (int(lane), after, max_events + len(taken)))
            chosen = [row for row in found if row[0] not in taken][:max_events]
            rows = [row for row, *_ in chosen]
            self._in_flight[lane].update(rows)
        try:
            claim = await self._open_rows(lane, chosen, max_octets)
        except BaseException:
            self.release(lane, rows)
            raise
        self.release(lane, set(rows).difference(claim.rows, (row for row, _ in claim.damaged)))
        return claim

    async def _open_rows(self, lane: Lane, chosen: Sequence[tuple[int, int, bytes]], max_octets: int) -> Claim:
        """As many as fit, and at least one."""
        claim, octets = Claim(lane), 0
        for row, dek_id, sealed in chosen:
            try:
                event = (await self.look.dek(dek_id)).open_event(sealed, lane)
            except SealError:
                claim.damaged.append((row, sealed))
                continue
            octets += len(event.body) + 1
            if claim.events and octets > max_octets:
                break
            claim.rows.append(row)
            claim.events.append(event)
        return claim

    async def leave(self, part: Part, most: int) -> list[Claim]:
        """The oldest rows of a part that are not being sent, by lane: nobody claims them until `stay`."""
        of_patch = "" if part.device_ref is None else "AND dek_id IN (SELECT id FROM dek WHERE device_ref = ?)"
        lanes = ", ".join(str(int(lane)) for lane in part.lanes)
        sql = f"SELECT id, lane, dek_id, sealed FROM event WHERE lane IN ({lanes}) {of_patch} ORDER BY id LIMIT ?"
        async with self._taking:
            taken = self._taken(part.lanes)
            parameters = (most + len(taken),) if part.device_ref is None else (part.device_ref, most + len(taken))
            found = await self.look.rows(sql, parameters)
            chosen = [row for row in found if row[0] not in taken][:most]
            self._leaving.update(row for row, *_ in chosen)
        claims = {lane: Claim(lane) for lane in part.lanes}
        for row, lane, dek_id, sealed in chosen:
            claim = claims[Lane(lane)]
            try:
                event = (await self.look.dek(dek_id)).open_event(sealed, lane)
            except SealError:
                claim.damaged.append((row, sealed))
            else:
                claim.rows.append(row)
                claim.events.append(event)
        return list(claims.values())

    def _taken(self, lanes: Sequence[Lane]) -> set[int]:
        """Rows that are on their way out."""
        return self._leaving.union(*(self._in_flight[lane] for lane in lanes))

    def stay(self) -> None:
        """What was leaving is gone, or stays."""
        self._leaving.clear()

    def release(self, lane: Lane, rows: Iterable[int]) -> None:
        """These rows are no longer being sent: forgotten by now, or to be claimed again."""
        self._in_flight[lane].difference_update(rows)

    # held for the clock

    @property
    def clock_is_right(self) -> bool:
        return self._writer.clock_is_right()

    @property
    def held(self) -> int:
        """Events that wait for the clock to be right."""
        return self._writer.stored.held

    # looking

    @property
    def devices(self) -> Mapping[str, Entry]:
        return self._state.devices

    def mark(self, device_id: str, stream: str, boot: int) -> Mark | None:
        """What is here of one stream of a paired patch; None when nothing is."""
        return self._state.marks.get(mark_key(self._state, self._keys, device_id, stream, boot))

    @property
    def lanes(self) -> dict[Lane, int]:
        """Rows per lane."""
        return dict(self._writer.stored.lanes)

    def unclaimed(self) -> dict[Lane, int]:
        """Rows per lane that are not being sent."""
        return {lane: max(0, rows - len(self._in_flight[lane])) for lane, rows in self.lanes.items()}

    @property
    def gateway_id(self) -> str:
        return self._state.gateway_id

    def waiting(self, device_id: str) -> int:
        """Adhesion reports of a patch that wait for its application."""
        known = self._state.devices.get(device_id)
        return len(self._state.waiting.get(known.ref, ())) if known else 0

    @property
    def quarantined(self) -> int:
        return self._writer.stored.quarantined

    @property
    def overflow(self) -> Mapping[bytes, int]:
        """What a full quarantine did not keep, by blind sender."""
        return self._state.overflow

    @property
    def lost(self) -> Mapping[str | None, Lost]:
        """What was given up and is not named by a gap marker yet, by patch."""
        return self._state.lost

    @property
    def unsaved(self) -> int:
        """Submissions not yet durable."""
        return self._writer.pending

    @property
    def trouble(self) -> Trouble | None:
        """What keeps everything from being acknowledged now."""
        return self._writer.trouble

    @property
    def room(self) -> Room:
        """How full it is, as of the last commit."""
        return self._writer.scales.room

    @property
    def only_the_reserve(self) -> bool:
        """Is what is left on the disk for urgent events and deletes only?"""
        return self._writer.scales.only_the_reserve

    @property
    def level(self) -> Level:
        return self._writer.scales.level

    async def weigh(self) -> None:
        """Look how full it is, and whether the disk may still be written, also where nothing is committed."""
        try:
            async with self._writer.between_commits:
                await self._writer.weigh()
        except MediumError as error:
            raise self._writer.fail(error) from error

    async def level_changed(self, seconds: float) -> None:
        """Wait until `level` changes, `seconds` at most. For one caller."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._writer.scales.level_changed.wait()
        self._writer.scales.level_changed.clear()

    @property
    def commits(self) -> int:
        return self._writer.commits

    @property
    def quarantine_octets(self) -> int:
        return self._writer.stored.quarantine_octets

    @property
    def page_size(self) -> int:
        return database.PAGE_SIZE

    # upkeep

    async def truncate_wal(self) -> bool:
        """Move the WAL into the database and empty it, so that deleted rows and keys are gone from both. False, and not
        done, where the disk has so little left that the WAL could not grow again.
        """
        async with self._writer.between_commits:
            if self._writer.scales.scarce:
                return False
            await self.look.rows("PRAGMA wal_checkpoint(TRUNCATE)", connection=self._connection)
            return True

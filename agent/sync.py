"""From durable rows to the upstream: claim by lane, send, then forget, set aside or keep."""

import asyncio
import logging
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from agent.counters import Counters
from agent.gaps import named_by, unreadable_rows
from buffer.draft import Draft
from buffer.errors import NotNowError
from buffer.lanes import Lane, next_lane
from buffer.lost import Lost
from buffer.quarantine import Quarantined, entry
from buffer.room import Level
from buffer.store import Claim, EventBuffer
from schemas.wire import WireEvent
from uploader.backoff import Backoff
from uploader.base import Accepted, Outcome, Refused, Retry, Upstream

log = logging.getLogger(__name__)

_UNAUTHORISED_WAIT = 60.0
_IDLE_WAIT = 5.0
_NOTHING_CLAIMED_WAIT, _LOCKED_WAIT = 0.2, 1.0
# Rows at a time where there is little room, and how many rows may wait for some.
_PIECE, _MOST_SET_ASIDE = 20, 2_000

T = TypeVar("T")


@dataclass(slots=True)
class SyncState:
    """What `status` shows of the upstream."""

    reachable: bool | None = None
    reason: str = "nothing sent yet"
    last_success: datetime | None = None
    acknowledged: int = 0
    own: int = 0
    deduped: int = 0
    refused: int = 0


@dataclass(slots=True)
class SetAside:
    """Rows on their way from the queue to the quarantine; not `wanted` any more: they stay where they are."""

    lane: Lane
    rows: Sequence[int]
    wanted: bool = True


@dataclass(frozen=True, slots=True)
class Verdicts:
    """A batch's outcomes, sorted: rows to delete, rows to put into quarantine as these entries, rows to send again, and
    how long to wait.
    """

    delivered: list[int]
    refused: list[tuple[int, Quarantined]]
    kept: list[int]
    retry: Retry | None


def is_own(event: WireEvent) -> bool:
    """Did the gateway make it itself (key `<gateway>.gateway.<epoch>.<n>`)?"""
    return event.idempotency_key.split(".")[1] == "gateway"


def sort_outcomes(claim: Claim, outcomes: Sequence[Outcome], now: datetime) -> Verdicts:
    """Decide what happens to each row of a claim."""
    verdicts = Verdicts([], [], [], next((o for o in outcomes if isinstance(o, Retry)), None))
    for row, event, outcome in zip(claim.rows, claim.events, outcomes, strict=True):
        if isinstance(outcome, Retry):
            verdicts.kept.append(row)
            continue
        if isinstance(outcome, Accepted):
            verdicts.delivered.append(row)
        else:
            sender = event.idempotency_key.split(".")[0]
            reason = f"refused upstream: {outcome.problem}"
            verdicts.refused.append((row, entry(sender, reason, "upstream", now, event.body)))
    return verdicts


class Sync:
    """One request at a time."""

    def __init__(
        self,
        buffer: EventBuffer,
        upstream: Upstream,
        backoff: Backoff,
        counters: Counters,
        *,
        batch_events: int,
        batch_octets: int,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._buffer, self._upstream, self._backoff, self._counters = buffer, upstream, backoff, counters
        self._batch_events, self._batch_octets = batch_events, batch_octets
        self._progress = progress
        self._turn = 0
        self._set_aside: dict[asyncio.Future[None], SetAside] = {}
        # Up to where rows that find no room in quarantine stand before those that can be sent.
        self._beyond: dict[Lane, int] = {}
        self.state = SyncState()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._progress()
            self._buffer.watch()
            wait = await self.step()
            if wait is None:
                await self._buffer.committed(_IDLE_WAIT)
                continue
            while wait > 0:
                await asyncio.sleep(min(wait, _IDLE_WAIT))
                wait -= _IDLE_WAIT
                self._progress()

    async def step(self) -> float | None:
        """Send at most one batch; returns how long to wait before the next, None for until something is committed."""
        lane = next_lane(self._buffer.unclaimed(), self._turn)
        if lane is None:
            return None
        self._turn += 1
        if not self._scarce:
            self._beyond.clear()
        try:
            claim = await self._buffer.claim(
                lane, self._batch_events, self._batch_octets, after=self._beyond.get(lane, 0)
            )
        except NotNowError:
            return _LOCKED_WAIT
        try:
            if claim.damaged:
                await self._set_damaged_aside(claim)
            if not claim.events:
                return _IDLE_WAIT if self._beyond.pop(lane, 0) else _NOTHING_CLAIMED_WAIT
            outcomes = await self._upstream.send(claim.events)
            verdicts = sort_outcomes(claim, outcomes, datetime.now(UTC))
        except BaseException:
            self._buffer.release(lane, claim.rows)
            raise
        return await self._settle(claim, outcomes, verdicts)

    async def _settle(self, claim: Claim, outcomes: Sequence[Outcome], verdicts: Verdicts) -> float:
        self._buffer.release(claim.lane, verdicts.kept)
        if verdicts.delivered or verdicts.refused:
            await self._take_out(claim.lane, verdicts)
            self._account(claim, outcomes)
            self._backoff.succeeded()
            return verdicts.retry.after if verdicts.retry else 0.0
        assert verdicts.retry is not None
        return self._wait_after(verdicts.retry)

    async def _take_out(self, lane: Lane, verdicts: Verdicts) -> None:
        for refused in self._pieces(verdicts.refused):
            self._move(SetAside(lane, [row for row, _ in refused]), refused_rows(lane, refused))
        # A full batch means a queue that drains: its rows go at once. Else they ride along with the next group.
        full = len(verdicts.delivered) + len(verdicts.refused) >= self._batch_events
        forgotten = [
            self._submit(lane, piece, delivered_rows(lane, piece), relief=True)
            for piece in self._pieces(verdicts.delivered)
        ]
        if full:
            self._buffer.flush()
            await self._durable(forgotten)
        await self._bounded()

    def _submit(
        self,
        lane: Lane,
        rows: Sequence[int],
        decide: Callable[[Draft], None],
        *,
        relief: bool = False,
        moves: bool = False,
    ) -> "asyncio.Future[None]":
        future = self._buffer.submit(decide, relief=relief, moves=moves)
        future.add_done_callback(lambda _: self._buffer.release(lane, rows))
        return future

    def _move(self, item: SetAside, decide: Callable[[Draft], None]) -> None:
        future = self._submit(item.lane, item.rows, lambda draft: decide(draft) if item.wanted else None, moves=True)
        self._set_aside[future] = item

    @property
    def _scarce(self) -> bool:
        return self._buffer.level >= Level.PAUSE or self._buffer.trouble is not None

    def _pieces(self, rows: Sequence[T]) -> Iterator[Sequence[T]]:
        """Small ones where there is little room: some of them may find it."""
        size = _PIECE if self._scarce else self._batch_events
        return (rows[start : start + size] for start in range(0, len(rows), size))

    async def _bounded(self) -> None:
        """Wait until all is set aside. That needs room; without any it is not waited for, as what is delivered then
        makes some.
        """
        while True:
            for future in [each for each in self._set_aside if each.done()]:
                del self._set_aside[future]
                future.result()
            if self._scarce and sum(len(item.rows) for item in self._set_aside.values()) > _MOST_SET_ASIDE:
                self._pass_over()
            if not self._set_aside or self._scarce:
                break
            await self._step_of(self._set_aside)

    def _pass_over(self) -> None:
        """Too many to keep in memory: they stay in the queue, to be refused again later, and what is behind them goes
        first.
        """
        for item in self._set_aside.values():
            item.wanted = False
            self._beyond[item.lane] = max(self._beyond.get(item.lane, 0), *item.rows)
        self._set_aside.clear()

    async def _durable(self, futures: Sequence["asyncio.Future[None]"]) -> None:
        """Wait until all of them are."""
        while not all(future.done() for future in futures):
            await self._step_of(futures)
        for future in futures:
            future.result()

    async def _step_of(self, futures: Iterable["asyncio.Future[None]"]) -> None:
        """For a full, locked or slow disk it may be long, and that is no reason to be started anew."""
        open_ones = [future for future in futures if not future.done()]
        await asyncio.wait(open_ones, timeout=_IDLE_WAIT, return_when=asyncio.FIRST_COMPLETED)
        self._progress()

    def _account(self, claim: Claim, outcomes: Sequence[Outcome]) -> None:
        state = self.state
        for event, outcome in zip(claim.events, outcomes, strict=True):
            if isinstance(outcome, Accepted):
                state.deduped += outcome.deduped
                if is_own(event):
                    state.own += 1
                else:
                    state.acknowledged += 1
            elif isinstance(outcome, Refused):
                state.refused += 1
                self._counters.add("refused_upstream")
                log.warning("event refused upstream, set aside problem=%s", outcome.problem)
        if not state.reachable:
            log.info("upstream reachable")
        state.reachable, state.reason, state.last_success = True, "reachable", datetime.now(UTC)

    def _wait_after(self, retry: Retry) -> float:
        if self.state.reason != retry.reason:
            log.warning("upstream: events are kept and sent again reason=%s", retry.reason)
        self.state.reachable, self.state.reason = False, retry.reason
        return self._backoff.failed(max(retry.after, _UNAUTHORISED_WAIT if retry.unauthorised else 0.0))

    async def _set_damaged_aside(self, claim: Claim) -> None:
        log.error(
            "rows do not open under their key, set aside lane=%s rows=%d", claim.lane.name.lower(), len(claim.damaged)
        )
        lane, gateway_id = claim.lane, self._buffer.gateway_id
        for piece in self._pieces(claim.damaged):
            self._move(SetAside(lane, [row for row, _ in piece]), unreadable_rows(lane, piece, gateway_id))
        self._buffer.flush()
        await self._bounded()


def delivered_rows(lane: Lane, rows: Sequence[int]) -> Callable[[Draft], None]:
    """Out of the queue: they are upstream."""
    return lambda draft: draft.forget(rows, lane)


def refused_rows(lane: Lane, refused: Sequence[tuple[int, Quarantined]]) -> Callable[[Draft], None]:
    """From the queue into quarantine."""

    def decide(draft: Draft) -> None:
        draft.forget([row for row, _ in refused], lane)
        for _, item in refused:
            marker = None if draft.quarantine(item) else named_by(b64decode(item.payload))
            if marker:  # or what it names would be named by nothing
                draft.give_up(Lost(**marker.model_dump(include=set(Lost.model_fields))))

    return decide

"""Once the clock is right: held events get their times, and go to the queue in their order, before anything newer."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from agent.events import Unfit, at_time
from agent.gaps import unreadable
from buffer.draft import Draft
from buffer.held import Held, Moment, moment_now
from buffer.quarantine import entry
from buffer.store import EventBuffer
from schemas.wire import WireEvent

log = logging.getLogger(__name__)

_AT_A_TIME = 500


def captured_at(held: Held, moment: Moment, now: datetime) -> datetime:
    """When a held event was captured, by a clock that is right and shows `now` at `moment`.

    What an earlier boot captured keeps its time: nothing tells for how long the gateway was off.
    """
    if held.at.boot != moment.boot:
        return held.captured
    return now - timedelta(seconds=moment.monotonic - held.at.monotonic)


async def release_held(buffer: EventBuffer, moment: Moment | None = None, now: datetime | None = None) -> int:
    """Once the clock is right: put all held events into the queue, with their times. How many there were."""
    released = 0
    while buffer.held and buffer.clock_is_right:
        rows, damaged = await buffer.look.held_rows(_AT_A_TIME)
        if not rows and not damaged:
            break
        decide = _released(rows, damaged, moment or moment_now(), now or datetime.now(UTC), buffer.gateway_id)
        await buffer.submit(decide, now=True, relief=True)
        released += len(rows) + len(damaged)
    if released:
        log.info("the clock is right: held events have their times and are sent count=%d", released)
    return released


def _released(
    rows: Sequence[Held], damaged: Sequence[tuple[int, bytes]], moment: Moment, now: datetime, gateway_id: str
) -> Callable[[Draft], None]:
    def decide(draft: Draft) -> None:
        fit: list[tuple[Held, WireEvent, datetime]] = []
        for held in rows:
            true = captured_at(held, moment, now)
            event = _at_time(held, true)
            if isinstance(event, Unfit):
                draft.drop_held(held.row)
                sender = held.event.idempotency_key.split(".")[0]
                draft.quarantine(entry(sender, event.reason, "buffer", draft.now, held.event.body))
            else:
                fit.append((held, event, true))
        draft.release(fit)
        for row, _ in damaged:
            draft.drop_held(row)
        unreadable(draft, damaged, gateway_id)

    return decide


def _at_time(held: Held, true: datetime) -> WireEvent | Unfit:
    """A bug here must not hold everything for ever."""
    try:
        return at_time(held.event, held.captured, true)
    except Exception:
        log.exception("a held event did not get its time, set aside")
        return Unfit("internal error: please report it")

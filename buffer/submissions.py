"""What was handed to the writer: decisions, their futures, and what matters most among them."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from buffer.draft import Decide, Draft
from buffer.held import Moment


class Submission(NamedTuple):
    """`relief` makes room; `moves` takes rows from the queue into quarantine; `now` must not wait for the tick. `hold`:
    what the clocks said, where they were wrong.
    """

    decide: Decide[Any]
    future: "asyncio.Future[Any]"
    relief: bool
    moves: bool
    now: bool
    hold: tuple[Moment, datetime] | None


def decide_all(
    draft: Draft, group: Sequence[Submission], hold: Callable[[], tuple[Moment, datetime] | None]
) -> list[tuple["asyncio.Future[Any]", Any]]:
    """Each caller's future and result; one caller's bug is its own and does not take the group with it. `hold` is asked
    for those that came when the clock was right.
    """
    results = []
    for submission in group:
        future = submission.future
        if future.done():
            continue  # its caller was told that it failed
        draft.hold(submission.hold or hold())
        before = draft.point()
        try:
            results.append((future, submission.decide(draft)))
        except Exception as error:  # noqa: BLE001
            draft.back_to(before)
            future.set_exception(error)
    return results


class Weighed(NamedTuple):
    """Submissions by what goes first where there is little room, each in its order."""

    relief: list[Submission]
    urgent: list[Submission]
    moves: list[Submission]
    rest: list[Submission]


def by_weight(group: Sequence[Submission]) -> Weighed:
    """What matters most first."""
    weighed = Weighed([], [], [], [])
    for each in group:
        if each.relief:
            weighed.relief.append(each)
        elif each.moves:
            weighed.moves.append(each)
        else:
            (weighed.urgent if each.now else weighed.rest).append(each)
    return weighed

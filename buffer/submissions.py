"""What was handed to the writer: decisions, their futures, and what matters most among them."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from buffer.draft import Decide, Draft
from buffer.held import Moment


class Submission(NamedTuple):
    """`relief` makes room; `now` must not wait for the tick. `hold`: what the clocks said, where they were wrong."""

    decide: Decide[Any]
    future: "asyncio.Future[Any]"
    relief: bool
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


def by_weight(group: Sequence[Submission]) -> tuple[list[Submission], list[Submission], list[Submission]]:
    """(What makes room, what is urgent, the rest), each in its order."""
    relief = [each for each in group if each.relief]
    urgent = [each for each in group if each.now and not each.relief]
    return relief, urgent, [each for each in group if not each.now and not each.relief]

"""Which patch is connected to next, and the words about main.conf: plain functions."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from device_drivers.links.ble_config import supervision_warning
from device_drivers.links.ble_policy import FRESH_SECONDS, Candidate, Listening, Policy, backoff, next_patch, stays

NOW = 10_000.0
DAY = 86_400.0
POLICY = Policy(stay_connected=4, slots=5, visit_seconds=300)


def heard(name, ago=1.0, **more):
    return Candidate(name, heard_at=NOW - ago, **more)


def crowd(*candidates, total=12):
    """So many patches that none stays connected; the others are not heard."""
    return [*candidates, *(Candidate(f"other{index}") for index in range(total - len(candidates)))]


def test_few_patches_stay_connected():
    assert stays(4, POLICY)
    assert not stays(5, POLICY)
    assert next_patch([heard("a", data_at=NOW - 1)], NOW, POLICY, 0) == "a"


def test_only_who_was_just_heard_is_connected_to():
    assert next_patch([Candidate("a"), heard("b", FRESH_SECONDS + 1)], NOW, POLICY, 0) is None
    assert next_patch([heard("a", DAY)], NOW, POLICY, 0) is None


def test_a_patch_that_was_away_for_a_day_comes_first_when_it_is_back():
    assert next_patch(crowd(heard("a", data_at=NOW - 400), heard("b", data_at=NOW - DAY)), NOW, POLICY, 0) == "b"


def test_oldest_data_first_and_never_seen_before_all():
    waiting = crowd(heard("a", data_at=NOW - 400), heard("b", data_at=NOW - 900), heard("c"))
    assert next_patch(waiting, NOW, POLICY, 0) == "c"
    assert next_patch(waiting[:2] + waiting[3:], NOW, POLICY, 0) == "b"


def test_one_that_is_tried_and_fails_does_not_keep_the_others_waiting():
    waiting = crowd(heard("a", tried_at=NOW - 5), heard("b", data_at=NOW - 900, tried_at=NOW - 950), heard("c"))
    assert next_patch(waiting, NOW, POLICY, 0) == "c"
    assert next_patch(waiting[:2] + waiting[3:], NOW, POLICY, 0) == "b"


def test_a_visit_is_due_by_age_by_news_or_by_urgency():
    fresh = {"data_at": NOW - 10}
    assert next_patch(crowd(heard("a", **fresh)), NOW, POLICY, 0) is None
    assert next_patch(crowd(heard("a", **fresh, news=True)), NOW, POLICY, 0) == "a"
    assert next_patch(crowd(heard("a"), heard("b", **fresh, urgent=True)), NOW, POLICY, 0) == "b"


def test_one_slot_is_kept_free_for_the_urgent_and_for_pairing():
    assert next_patch([heard("a")], NOW, POLICY, 4) is None
    assert next_patch([heard("a", urgent=True)], NOW, POLICY, 4) == "a"
    assert next_patch([heard("a", wants_pairing=True)], NOW, POLICY, 4) == "a"
    assert next_patch([heard("a", urgent=True)], NOW, POLICY, 5) is None


def test_nobody_is_tried_before_his_time_or_twice():
    assert next_patch([heard("a", not_before=NOW + 1)], NOW, POLICY, 0) is None
    assert next_patch([heard("a", connected=True)], NOW, POLICY, 0) is None


candidates = st.builds(
    Candidate,
    st.sampled_from("abcdefgh"),
    connected=st.booleans(),
    heard_at=st.none() | st.floats(NOW - 100, NOW),
    data_at=st.none() | st.floats(0, NOW),
    not_before=st.floats(NOW - 50, NOW + 50),
    urgent=st.booleans(),
    news=st.booleans(),
    wants_pairing=st.booleans(),
)


@given(st.lists(candidates, max_size=14, unique_by=lambda item: item.device_id), st.integers(0, 6))
def test_the_chosen_one_can_be_reached_and_nobody_urgent_waits_behind_it(known, in_use):
    chosen = next_patch(known, NOW, POLICY, in_use)
    if chosen is None:
        return
    (best,) = [item for item in known if item.device_id == chosen]
    assert not best.connected
    assert NOW - best.heard_at <= FRESH_SECONDS
    assert in_use < POLICY.slots
    reachable = [i for i in known if not i.connected and i.heard_at and NOW - i.heard_at <= FRESH_SECONDS]
    if not best.first():
        assert not [item for item in reachable if item.first() and item.not_before <= NOW]


def visits(candidates, seconds, each=1.0):
    """Whom an adapter visits that is at it without a break: times and names. Who is visited is heard by that."""
    listening, now, chosen = Listening(), NOW, []
    while now < NOW + seconds:
        name = listening.next_patch(candidates, now, POLICY, 0)
        if name is None:
            now += 0.5
            continue
        chosen.append((now, name))
        now += each
        listening.connected(now)
        visited = {"heard_at": now, "data_at": now}
        candidates = [replace(item, **visited) if item.device_id == name else item for item in candidates]
    return chosen


def pauses(chosen):
    times = [time for time, _ in chosen]
    return [later - time for time, later in pairwise(times) if later - time > 3]


BUSY = [heard(name, data_at=NOW - DAY, news=True) for name in ("a", "b")]


def test_an_adapter_that_is_always_busy_listens_for_those_it_does_not_hear():
    paused = pauses(visits(crowd(*BUSY), 120))
    assert len(paused) == 4
    assert set(paused) == {9.0}


def test_who_hears_everybody_or_is_not_busy_makes_no_pause():
    assert pauses(visits(crowd(*BUSY, total=2), 120)) == []
    assert pauses(visits([*BUSY, Candidate("away", not_before=NOW + 600)], 120)) == []
    connected = [replace(item, connected=True) for item in crowd(total=12)]
    assert pauses(visits([*BUSY, *connected], 120)) == []


def test_who_goes_first_does_not_wait_while_the_adapter_listens_and_does_not_make_it_longer():
    """An urgent patch that is visited every 6 s; the pause is counted from its beginning."""
    urgent, listening, now, chosen = heard("urgent", urgent=True), Listening(), NOW, []
    while now < NOW + 120:
        urgent = replace(urgent, not_before=chosen[-1][0] + 6 if chosen and chosen[-1][1] == "urgent" else now)
        candidates = crowd(replace(urgent, heard_at=now), *(replace(item, heard_at=now) for item in BUSY))
        name = listening.next_patch(candidates, now, POLICY, 0)
        if name is None:
            now += 0.5
            continue
        chosen.append((now, name))
        now += 1
        listening.connected(now)
    at = [time for time, name in chosen if name == "urgent"]
    assert max(later - time for time, later in pairwise(at)) <= 7
    others = [time for time, name in chosen if name != "urgent"]
    assert max(later - time for time, later in pairwise(others)) <= 12
    assert max(others) > NOW + 100


def test_backoff_grows_and_ends():
    waits = [backoff(failures) for failures in range(1, 20)]
    assert waits[:3] == [2.0, 4.0, 8.0]
    assert waits == sorted(waits)
    assert waits[-1] == 300.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("", "420 ms"),
        ("[LE]\nMinConnectionInterval=24\n", "420 ms"),
        ("[LE]\nConnectionSupervisionTimeout=50\n", "500 ms"),
        ("[LE]\nConnectionSupervisionTimeout=soon\n", "has errors"),
        ("no section", "has errors"),
    ],
)
def test_a_short_supervision_timeout_is_said(text, words):
    warning = supervision_warning(text)
    assert words in warning
    assert "systemd/bluetooth-main.conf" in warning


def test_our_own_main_conf_is_well():
    from pathlib import Path

    text = (Path(__file__).parents[2] / "systemd" / "bluetooth-main.conf").read_text()
    assert supervision_warning("[General]\nName=x\n" + text) is None

"""What follows from how full the buffer is, and who goes first."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from buffer.lanes import Lane
from buffer.reserve import Reserve
from buffer.room import Level, Room, level
from buffer.thinning import Crowd, Part, least_important

MIB = 1 << 20


@pytest.mark.parametrize(
    ("percent", "before", "expected"),
    [
        (69, Level.FINE, Level.FINE), (70, Level.FINE, Level.WARN), (84, Level.WARN, Level.WARN),
        (85, Level.WARN, Level.PAUSE), (81, Level.PAUSE, Level.PAUSE), (79, Level.PAUSE, Level.WARN),
        (94, Level.PAUSE, Level.PAUSE), (95, Level.PAUSE, Level.THIN), (94, Level.THIN, Level.THIN),
        (92, Level.THIN, Level.PAUSE), (100, Level.FINE, Level.THIN), (0, Level.THIN, Level.FINE),
    ],
)  # fmt: skip
def test_levels_of_the_quota(percent, before, expected):
    assert level(Room(percent, 100), before) is expected


@pytest.mark.parametrize(
    ("free", "reserved", "before", "expected"),
    [
        (16 * MIB, True, Level.FINE, Level.FINE), (15 * MIB, True, Level.FINE, Level.PAUSE),
        (31 * MIB, True, Level.PAUSE, Level.PAUSE), (32 * MIB, True, Level.PAUSE, Level.FINE),
        (47 * MIB, False, Level.FINE, Level.PAUSE), (48 * MIB, False, Level.PAUSE, Level.FINE),
        (0, True, Level.FINE, Level.PAUSE),
    ],
)  # fmt: skip
def test_another_program_fills_the_disk(free, reserved, before, expected):
    """What can wait then waits; nothing is given up for that."""
    assert level(Room(10, 100, free, 16 * MIB, reserved), before) is expected


def test_without_a_reserve_only_the_quota_counts():
    assert level(Room(10, 100, 0, 0), Level.FINE) is Level.FINE


CROWDS = st.lists(st.builds(Crowd, st.sampled_from(Lane), st.integers(0, 4), st.integers(0, 1_000)), max_size=12)


@given(CROWDS)
def test_doses_and_what_is_urgent_are_never_given_up(crowds):
    part = least_important(crowds)
    thinned = [crowd for crowd in crowds if crowd.lane in (Lane.SENSOR, Lane.TELEMETRY) and crowd.rows]
    assert (part is None) is (not thinned)
    if part:
        assert set(part.lanes) <= {Lane.SENSOR, Lane.TELEMETRY}
        assert any(crowd.lane in part.lanes and part.device_ref in (None, crowd.device_ref) for crowd in thinned)


def test_who_goes_first():
    dose = Crowd(Lane.DOSAGE, 1, 10)
    assert least_important([dose]) is None
    assert least_important([dose, Crowd(Lane.TELEMETRY, 0, 90), Crowd(Lane.SENSOR, 1, 5)]) == Part((Lane.TELEMETRY,))
    flood = [dose, Crowd(Lane.SENSOR, 7, 90), Crowd(Lane.SENSOR, 1, 5), Crowd(Lane.TELEMETRY, 0, 5)]
    assert least_important(flood) == Part((Lane.SENSOR,), 7)
    even = [Crowd(Lane.SENSOR, ref, 50) for ref in range(5)]
    assert least_important(even) == Part((Lane.SENSOR, Lane.TELEMETRY))


def test_the_reserve_takes_room_and_gives_it_back(tmp_path):
    reserve = Reserve(tmp_path / "buffer.db", 3 * MIB)
    reserve.take()
    assert reserve.held
    assert (tmp_path / "buffer.reserve").stat().st_blocks * 512 >= 3 * MIB
    reserve.release()
    assert not reserve.held
    assert list(tmp_path.iterdir()) == []
    reserve.release()


@pytest.mark.parametrize(
    ("octets", "free", "kept"),
    [
        (3 * MIB, 100 * MIB, True),
        (3 * MIB, 4 * MIB, True),
        pytest.param(3 * MIB, 3 * MIB, False, id="opening the database needs that"),
        pytest.param(2 * MIB, 100 * MIB, False, id="now it is to be smaller"),
        pytest.param(4 * MIB, 100 * MIB, False, id="now it is to be larger"),
        pytest.param(0, 100 * MIB, False, id="now there is to be none"),
    ],
)
def test_a_reserve_from_before_is_kept_or_given_up(tmp_path, octets, free, kept):
    Reserve(tmp_path / "buffer.db", 3 * MIB).take()
    reserve = Reserve(tmp_path / "buffer.db", octets)
    reserve.make_room(free)
    assert reserve.held is kept
    assert len(list(tmp_path.iterdir())) == kept


def test_a_reserve_that_does_not_fit_is_not_held(tmp_path):
    reserve = Reserve(tmp_path / "buffer.db", 1 << 50)
    reserve.take()
    assert not reserve.held
    assert list(tmp_path.iterdir()) == []

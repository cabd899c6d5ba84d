"""One session or another: its start is read anew with other digits, or its records are numbered from the beginning."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from device_drivers.base import DeviceContext, Frame
from device_drivers.cgm_session import Now, last_of_session, which_session
from device_drivers.cgm_status import MAX_SPANS, StatusHistory, changes
from device_drivers.emulated import cgm
from device_drivers.profiles.continuous_glucose import FEATURE, MEASUREMENT, SESSION_START, STATUS, decoder

START = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
BOOT = 20261124080000
PATCH = "NFLX_0A1B2C3D"
MINUTE = timedelta(minutes=1)
UNKNOWN_ZONE = b"\x80\xff"


def digits(start):
    return int(f"{start:%Y%m%d%H%M%S}")


class Patch:
    """A decoder, and what its patch says at a minute of this gateway's clock."""

    def __init__(self, facts=None):
        self.decoder = decoder(DeviceContext(PATCH, facts=facts or {}))
        self.facts = dict(facts or {})
        self.say(FEATURE, cgm.feature(), 0)

    def say(self, channel, payload, minute, live=False):
        found = self.decoder.receive(Frame(PATCH, channel, payload, START + minute * MINUTE, live))
        self.facts |= found.facts
        return found

    def start(self, start, minute):
        return self.say(SESSION_START, cgm.session_start(start), minute)

    def status(self, offset, minute, octets=b"\0\0\0"):
        return self.say(STATUS, cgm.with_crc(offset.to_bytes(2, "little") + octets), minute)

    def record(self, offset, minute, live=False, **octets):
        value = cgm.measurement(cgm.Record(120, offset, trend=20, quality=90, **octets))
        return self.say(MEASUREMENT, value, minute, live)

    def key(self, offset, minute, live=False):
        """Boot and sequence of a reading; None when it is refused."""
        found = self.record(offset, minute, live).observations
        return (found[-1].place.boot, found[-1].place.sequence) if found else None

    def restarted(self):
        """The daemon anew: only facts are left."""
        return Patch(self.facts)


@pytest.fixture
def patch():
    """A session of 100 minutes, all of it seen."""
    made = Patch()
    made.start(START, 0)
    made.status(0, 0)
    for offset in range(101):
        assert made.key(offset, offset, live=True) == (BOOT, offset)
    return made


KNOWN = {"cgm_boot": BOOT, "cgm_start": START.isoformat(), "cgm_begin": START.isoformat(), "cgm_last": 100}


@pytest.mark.parametrize(
    ("moved", "offset", "minute", "expected"),
    [
        (timedelta(seconds=7), 110, 110, "same"),
        (timedelta(hours=-1), 110, 110, "same"),
        (timedelta(days=2000), 110, 110, "same"),  # a factory date set right
        (timedelta(days=2), 110, 2880 + 110, "next"),
        (timedelta(days=2), 2000, 2880 + 2000, "next"),
        (timedelta(minutes=101), 110, 211, "next"),
        (timedelta(days=2), 110, 110 - 600, "unclear"),  # this gateway's clock is behind
        (timedelta(days=-5), 110, 2880 + 110, "unclear"),  # the date of the patch's own reader is wrong
        (timedelta(seconds=7), 110, 110 - 600, "same"),
        (timedelta(seconds=7), 110, 110 + 60, "same"),
    ],
)
def test_two_witnesses(moved, offset, minute, expected):
    assert which_session(KNOWN, digits(START + moved), Now(offset, START + minute * MINUTE)) == expected


def test_a_collector_that_writes_the_time_does_not_rekey_a_session(patch):
    for made in (patch, patch.restarted()):
        made.start(START + timedelta(seconds=7), 105)
        assert made.key(50, 105) is None  # which session it is shows with the status
        made.status(105, 105)
        assert made.key(50, 105) == (BOOT, 50)
        assert made.key(106, 106, live=True) == (BOOT, 106)


def test_nor_does_it_after_the_end_of_the_sensor(patch):
    patch.status(100, 100, b"\x01\0\0")
    patch.start(START + timedelta(seconds=7), 110)
    patch.status(110, 110, b"\x01\0\0")
    assert patch.key(50, 110) == (BOOT, 50)


def test_a_next_session_whose_stop_nobody_saw(patch):
    for made in (patch, patch.restarted()):
        later = START + timedelta(days=2)
        made.start(later, 2880 + 140)
        made.status(140, 2880 + 140)
        assert made.key(40, 2880 + 140) == (digits(later), 40)
        assert made.facts["cgm_last"] == 40


def test_a_gateway_whose_clock_is_behind_gives_the_next_session_no_old_keys(patch):
    """No clock chip, no network after a power cut: the next session seems to begin in the future."""
    later, behind = START + timedelta(days=2), 1440
    patch.start(later, behind)
    assert patch.facts["cgm_unclear"] == 1
    assert patch.key(105, behind) is None
    patch.status(111, behind)
    assert patch.key(105, behind) in {None, (digits(later), 105)}
    patch.start(later, 2880 + 111)
    patch.status(111, 2880 + 111)
    found = patch.record(105, 2880 + 111).observations[-1]
    assert (found.place.boot, found.occurred_at) == (digits(later), (later + 105 * MINUTE).isoformat())


def test_while_it_is_unclear_nothing_is_stored_and_it_is_asked_again(patch):
    patch.start(START + timedelta(days=2), 110 - 600)
    patch.status(110, 110 - 600)
    assert patch.facts["cgm_unclear"] == 1
    found = patch.record(111, 111 - 600, live=True)
    assert found.observations == []
    assert "check the date of this gateway" in found.refused[0].reason
    assert found.reads == [SESSION_START, STATUS]
    patch.start(START, 112)
    assert patch.facts["cgm_unclear"] == 0
    assert patch.key(111, 112) == (BOOT, 111)


def test_a_clock_that_was_wrong_at_the_first_look_is_looked_at_again():
    """Else the session would be unclear for ever once a collector writes its start anew."""
    made = Patch()
    made.start(START, -2 * 1440)  # two days behind
    made.status(0, -2 * 1440)
    made.start(START, 110)
    made.status(110, 110)
    for minute in (310, 400, 500):
        made.start(START + timedelta(seconds=7), minute)
        made.status(minute, minute)
        assert made.key(minute, minute, live=True) == (BOOT, minute)


def test_a_start_written_anew_is_known_from_then_on(patch):
    patch.start(START + timedelta(seconds=7), 105)
    patch.status(105, 105)
    for made in (patch, patch.restarted()):
        made.start(START + timedelta(seconds=7), 110 - 600)  # this gateway's clock fell behind since
        assert made.facts["cgm_unclear"] == 0


def test_ever_more_damaged_records_are_asked_for_only_so_often(patch):
    damaged = [cgm.measurement(cgm.Record(120, n, 20, 90))[:-1] + b"\xff" for n in range(200, 300)]
    asked = [len(patch.say(MEASUREMENT, value, 300).reads) for _ in range(3) for value in damaged]
    assert sum(asked) == 64


def test_a_start_that_cannot_be_read_stops_the_old_one(patch):
    """A sensor that was started, and its start not yet written."""
    found = patch.say(SESSION_START, cgm.with_crc(bytes(9)), 300)
    assert "not a date" in found.refused[0].reason
    patch.status(120, 300)
    assert patch.key(120, 300, live=True) is None


def test_a_restart_while_connected(patch):
    """Its first record, after the warm-up, has a higher number than the last before."""
    again = START + timedelta(minutes=200)
    found = patch.record(160, 360, live=True)
    assert found.observations == []
    assert found.reads == [SESSION_START, STATUS]
    patch.start(again, 360)
    patch.status(160, 360)
    assert patch.key(160, 360) == (digits(again), 160)


def test_a_step_of_this_gateways_clock_costs_one_look(patch):
    assert patch.record(101, 101 + 1440, live=True).reads == [SESSION_START, STATUS]
    patch.start(START, 101 + 1440)
    patch.status(101, 101 + 1440)
    assert patch.key(101, 101 + 1440) == (BOOT, 101)
    assert patch.key(102, 102 + 1440, live=True) == (BOOT, 102)


@pytest.mark.parametrize("live", [True, False])
def test_a_wrong_number_does_not_end_the_numbering(patch, live):
    assert patch.key(40_000, 101, live=live) is None
    assert patch.facts["cgm_last"] == 100
    assert patch.key(101, 101, live=True) == (BOOT, 101)


def test_an_old_record_after_the_wrap_keeps_its_key(patch):
    patch.status(65_535, 65_535)
    assert patch.key(65_535, 65_535) == (BOOT, 65_535)
    assert patch.key(1, 65_537, live=True) == (BOOT, 65_537)
    assert patch.key(300, 65_537) == (BOOT, 300)


def test_an_old_record_under_a_clock_that_is_ahead_keeps_its_key(patch):
    patch.status(33_000, 33_000)
    assert patch.key(33_000, 33_000) == (BOOT, 33_000)
    patch.start(START, 86_400)
    patch.status(33_010, 86_400)
    assert patch.key(2, 86_400) == (BOOT, 2)


def test_a_start_without_a_zone_is_anchored_by_where_the_patch_is_now():
    """The oldest stored record comes first: it is hours old, and must not be taken for new."""
    made = Patch()
    made.say(SESSION_START, cgm.with_crc(cgm.session_start(START)[:7] + UNKNOWN_ZONE), 600)
    assert made.key(0, 600) is None
    made.status(600, 600)
    assert made.record(0, 600).observations[-1].occurred_at == START.isoformat()
    assert made.record(600, 601).observations[-1].occurred_at == (START + 600 * MINUTE).isoformat()


def codes(found):
    return [
        (seen.place.stream, seen.place.sequence, seen.data.get("detail"))
        for seen in found.observations
        if "code" in seen.data
    ]


FAULT = b"\x08\0\0"


def test_a_fault_that_comes_back_within_its_minute_is_said(patch):
    assert codes(patch.record(101, 101, live=True, status=0x08)) == [("cgm_sensor_malfunction", 101, None)]
    assert codes(patch.status(102, 102)) == [("cgm_sensor_malfunction_ended", 102, "ended")]
    assert codes(patch.record(102, 102, live=True, status=0x08)) == [("cgm_sensor_malfunction", 102, None)]


def test_a_fault_that_came_and_went_while_away_is_said(patch):
    assert codes(patch.status(300, 300)) == []
    said = [each for offset in range(101, 301) for each in codes(patch.record(offset, 300, status=8 * (offset == 200)))]
    assert said == [("cgm_sensor_malfunction", 200, None), ("cgm_sensor_malfunction_ended", 201, "ended")]


def test_a_record_that_fills_a_hole_ends_no_fault(patch):
    begun = codes(patch.record(103, 103, live=True, status=0x08))
    assert codes(patch.record(102, 104)) == begun  # under the key it has: said once
    patch.record(105, 105, live=True)
    assert codes(patch.record(104, 106, status=0x08)) == [("cgm_sensor_malfunction_ended", 105, "ended")]


def test_a_fetch_that_repeats_what_is_here_says_nothing_again(patch):
    for offset in range(101, 131):
        patch.record(offset, offset, live=True, status=8 * (110 <= offset < 120))
    for made in (patch, patch.restarted()):
        made.start(START, 131)
        made.status(131, 131)
        assert [codes(made.record(offset, 131, status=8 * (110 <= offset < 120))) for offset in range(101, 131)] == (
            [[]] * 30
        )


def test_a_fault_is_said_once_though_a_live_record_comes_in_between(patch):
    patch.start(START, 400)
    patch.status(400, 400)
    said = []
    for offset in range(101, 401):
        if offset == 150:
            said += codes(patch.record(401, 401, live=True))
        said += codes(patch.record(offset, 401, status=8 * (200 <= offset < 260)))
    assert said == [("cgm_sensor_malfunction", 200, None), ("cgm_sensor_malfunction_ended", 260, "ended")]


@given(st.lists(st.sampled_from([0, 0, 0, 8, 2]), min_size=1, max_size=60), st.data())
def test_whatever_the_order_all_changes_are_said_and_none_again(statuses, data):
    """Ascending, each change is said exactly; in any order at least those; read again in any order none that is new."""
    records = list(enumerate(statuses))
    exact = {
        (bit.code, is_set, sequence)
        for sequence, now in records
        for bit, is_set in changes(statuses[sequence - 1] if sequence else 0, now)
    }

    def said(history, order):
        return {(c.bit.code, c.is_set, c.at) for sequence, now in order for c in history.observe(sequence, now, 1)}

    assert said(StatusHistory(), records) == exact
    few = records[: 2 * MAX_SPANS - 2]  # as many as are surely kept in mind
    history = StatusHistory()
    first = said(history, data.draw(st.permutations(few)))
    assert {change for change in exact if change[2] < len(few)} <= first
    again = StatusHistory(history.to_text())
    assert said(again, data.draw(st.permutations(few))) == set()
    assert again.to_text() == history.to_text()


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ({}, 2879),
        ({"cgm_run_time": 24}, 1440),
        ({"cgm_stopped": 700, "cgm_run_time": 24}, 700),
        ({"cgm_last": 4000}, 4000),
    ],
)
def test_how_far_a_session_can_have_gone(before, expected):
    after = {"cgm_start": (START + timedelta(days=2)).isoformat()}
    assert last_of_session({"cgm_start": START.isoformat()} | before, after) == expected

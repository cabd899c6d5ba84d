"""RACP octets, and whole fetches against the emulated sensor: cut anywhere, nothing is lost and nothing doubled."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings, strategies as st

from buffer.marks import Mark
from device_drivers.base import DecodeError, DeviceContext, Frame
from device_drivers.emulated.cgm_sensor import MEASUREMENT as RECORD, CgmSensor
from device_drivers.emulated.faults import Faults, LinkDrop
from device_drivers.profiles.continuous_glucose import (
    FEATURE,
    GATT,
    MEASUREMENT,
    RACP,
    SESSION_START,
    SOCP,
    STREAM,
    decoder,
)  # fmt: skip
from device_drivers.record_access import Ended, Fetch, Sweep, racp_response

START = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
NOW = START + timedelta(hours=12)
PATCH = "NFLX_0A1B2C3D"
ACCESS = GATT.records


def octets(text):
    return bytes.fromhex(text)


def test_requests():
    assert ACCESS.report_from(3060) == octets("010301F40B")
    assert ACCESS.report_from(65_536 + 3060) == octets("010301F40B")  # T12: by its low 16 bits
    assert ACCESS.abort() == octets("0300")


def test_answers():
    assert racp_response(octets("05000201")).records == 258
    assert ACCESS.answer(octets("06000106")) == (False, True, "no records")
    assert ACCESS.answer(octets("06000101")) == (False, True, "complete")
    assert ACCESS.answer(octets("06000301")) == (True, True, "complete")
    assert "busy" in ACCESS.answer(octets("0600010A")).reason
    assert "0x42" in ACCESS.answer(octets("06000142")).reason
    for other in ("060106", "0500030201", "", "05000201", "06000201"):
        assert ACCESS.answer(octets(other)) is None


def test_a_page_ends_with_a_request_to_stop():
    fetch = Fetch(ACCESS, page=2)
    assert fetch.record() is None
    assert fetch.record() == octets("0300")
    assert fetch.record() is None
    assert fetch.answer(octets("06000301")) == Ended("page", "complete")


def test_a_report_that_ends_before_the_request_to_stop_arrives():
    fetch = Fetch(ACCESS, page=1)
    fetch.record()
    assert fetch.answer(octets("06000101")).how == "page"
    following = Fetch(ACCESS, page=9)
    assert following.answer(octets("06000301")) is None  # the late answer to it
    assert following.answer(octets("06000101")).how == "complete"


@given(st.binary(max_size=8))
def test_any_answer(value):
    ACCESS.answer(value)
    Fetch(ACCESS, 3).answer(value)


class Collector:
    """A gateway without a radio: decoder, mark, what was stored. `durable` is what a restart leaves."""

    def __init__(self):
        self.mark, self.stored, self.facts = Mark(), [], {}

    def connect(self, sensor, faults, page):
        """One connection, to its end or its cut; the reads first."""
        decode = decoder(DeviceContext(PATCH, facts=self.facts))
        for channel in (FEATURE, SESSION_START):
            self.facts |= decode.receive(Frame(PATCH, channel, sensor.read(channel[1]), NOW, False)).facts
        sweep = Sweep(ACCESS, page)
        for _ in range(500):
            first = self.mark.missing(self.spacing)
            fetch = sweep.next(first, hole=first <= self.mark.high)
            if fetch is None:
                return
            if sweep.ended(self.fetch(decode, fetch, faults.apply(sensor.control(fetch.start(first))), sensor)):
                self.mark = self.mark.settle()
        raise AssertionError("never complete")

    @property
    def spacing(self):
        return max(1, int(self.facts.get("cgm_spacing", 0)))

    def fetch(self, decode, fetch, values, sensor):
        for value in values:
            if value.characteristic == RECORD:
                self.receive(decode, value.value)
                stop = fetch.record()
                if stop:
                    (answer,) = sensor.control(stop)
                    return fetch.answer(answer.value)
            else:
                ended = fetch.answer(value.value)
                if ended:
                    return ended
        raise AssertionError("no answer")

    def receive(self, decode, value):
        try:
            found = decode.receive(Frame(PATCH, MEASUREMENT, value, NOW, False))
        except DecodeError:
            return
        self.facts |= found.facts
        for seen in found.observations:
            if seen.place.stream == STREAM and not self.mark.has(seen.place.sequence):
                self.mark = self.mark.add(seen.place.sequence, self.spacing)
                self.stored.append(seen.place.sequence)


@given(
    count=st.integers(1, 150),
    interval=st.sampled_from([1, 5]),
    cuts=st.lists(st.integers(1, 200), max_size=6),
    page=st.integers(1, 60),
    damaged=st.sets(st.integers(0, 150), max_size=4),
    twice=st.sets(st.integers(0, 150), max_size=4),
    reverse=st.booleans(),
    busy=st.integers(0, 2),
    never=st.sets(st.integers(0, 150), max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_whatever_happens_each_record_is_here_once(count, interval, cuts, page, damaged, twice, reverse, busy, never):
    sensor = CgmSensor(START, interval=interval)
    sensor.measure_until((count - 1) * interval)
    for offset in never:
        sensor.records.pop(offset * interval, None)  # the patch itself has no such record
    # Pages of a report that runs backwards never reach its beginning: such a patch is read in one go.
    page = 1_000 if reverse else page
    faults = Faults(sorted(cuts), {o * interval for o in damaged}, {o * interval for o in twice}, reverse, busy)
    gateway = Collector()
    for _ in range(len(cuts) + 1):
        try:
            gateway.connect(sensor, faults, page)
            break
        except LinkDrop:
            continue  # a decoder of its own per connection; mark and facts are durable
    gateway.connect(sensor, faults, page)  # a newest record that was damaged is fetched with the next connection
    assert sorted(gateway.stored) == sorted(sensor.records)


def test_no_records():
    gateway, sensor = Collector(), CgmSensor(START)
    gateway.connect(sensor, Faults(), 10)
    assert (gateway.stored, gateway.mark.missing(1)) == ([], 0)


def test_sensor_answers():
    sensor = CgmSensor(START)
    sensor.measure_until(4)
    assert [sent.value for sent in sensor.control(octets("0401"))] == [octets("05000500")]
    assert [sent.value for sent in sensor.control(octets("010301FF00"))] == [octets("06000106")]
    assert [sent.value for sent in sensor.control(octets("0201"))] == [octets("06000202")]
    assert [sent.value for sent in sensor.control(octets("010700"))] == [octets("06000103")]
    assert decoder(DeviceContext(PATCH, facts={"cgm_feature": 1 << 12})).receive(
        Frame(PATCH, SOCP, sensor.settings(octets("02")), NOW)
    ).facts == {"cgm_interval": 1}


@pytest.mark.parametrize("value", ["", "0500", "060001"])
def test_what_is_no_answer_is_refused(value):
    with pytest.raises(DecodeError):
        decoder(DeviceContext(PATCH)).receive(Frame(PATCH, RACP, octets(value), NOW))

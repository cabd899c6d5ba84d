"""A disk that is full, by another program or by the buffer, and one that stalls: waited for, nothing lost."""

import time

import pytest
from medium import STATE
from station import station_in

WATCHDOG = 24
STALL = 36  # longer than the watchdog
BALLAST = f"{STATE}/ballast"
STATUS = "/opt/patch-gateway/venv/bin/patch-gateway status"


@pytest.fixture(scope="module")
def station(rig, central, short_folder):
    with station_in(short_folder, rig, central, unit=f"[Service]\nWatchdogSec={WATCHDOG}\n") as made:
        yield made


@pytest.fixture(autouse=True)
def journal(request, station):
    request.node.machine = station


@pytest.fixture
def same_process(station):
    """Whatever the disk does, the daemon stays."""
    before = station.status()["pid"]
    yield
    assert station.status()["pid"] == before


def fill_up(station, take_room=lambda: None):
    """Urgent readings until none is acknowledged any more, and `status` says so: rows of before left room for many."""

    def full():
        take_room()
        for _ in range(1_500):
            station.load.publish("alert")
        before = station.progress()
        time.sleep(2)  # of several commits
        return station.status()["buffer"]["trouble"] and station.progress() == before

    station.wait_for(full, 100, station.status)
    assert "NOTHING IS ACKNOWLEDGED: there is no room for more" in station.run(STATUS).ok()


def test_a_disk_that_stalls_is_waited_for(station, same_process):
    """For longer than the watchdog of this test, which the daemon feeds all the while."""
    station.load.start()
    station.wait_acknowledged(200)
    start = time.monotonic()
    station.disk.stall(STALL)
    assert station.disk.hit.wait(40)
    station.wait_acknowledged(400)
    assert time.monotonic() - start > STALL
    assert station.lost() == set()


def test_a_disk_that_another_program_fills(station, same_process):
    """First readings wait at the broker; at the end urgent ones too. Room again, and all of it arrives."""
    take_room = lambda: station.run(f"cat /dev/zero >> {BALLAST}")  # noqa: E731
    station.load.start()
    station.wait_acknowledged(200)
    take_room()
    station.wait_for(lambda: station.status()["buffer"]["level"] == "pause", 20, station.status)
    station.load.stop()
    station.ward.do(station.pipe.cut())
    fill_up(station, take_room)
    station.run(f"rm {BALLAST}").ok()
    assert station.lost(100) == set()
    assert station.status()["buffer"]["level"] == "fine"


def test_the_watchdog_of_these_tests_bites(station):
    """A daemon that the disk had stopped for so long would have been killed."""
    station.forget()
    station.run("systemctl kill --signal=STOP patch-gateway").ok()
    station.wait_for(lambda: f"Watchdog timeout (limit {WATCHDOG}s)" in station.said(), 30, station.said)
    station.run("systemctl kill --signal=CONT patch-gateway").ok()

"""Disks that fail, and power cuts that take what they had not flushed, one after another under one gateway."""

import errno
import random

import pytest
from lines import PATIENCE
from medium import STATE
from station import CUTS, SEED, station_in

TRIES = 4
ENDED = "Main process exited, code=exited, status=74"
STOPPED = "dmesg | grep -E 'aborted journal|Remounting filesystem read-only'"


@pytest.fixture(scope="module")
def station(rig, central, short_folder):
    """Without the file that takes room: making it at each start flushes the disk by chance."""
    with station_in(short_folder, rig, central, buffer="reserve_mib = 0") as made:
        made.fill_wal()
        yield made


@pytest.fixture(autouse=True)
def journal(request, station):
    request.node.machine = station


def acknowledging(station):
    """The patch publishes and is acknowledged; central is away, so all of it is at the disk's mercy."""
    station.ward.do(station.pipe.cut())
    station.load.start()
    station.wait_acknowledged(300)
    station.forget()


def wait_for_the_end(station):
    """The daemon ends with status 74; the patch has nothing more to say."""
    station.wait_for(lambda: ENDED in station.said(), 30, lambda: "the daemon goes on")
    station.load.stop()


def all_there_once(station):
    """At central; and none was in the buffer twice, or it would have been sent twice."""
    assert station.lost() == set(), f"TEST_SEED={SEED}"
    assert station.status()["upstream"]["deduped"] == 0


@pytest.mark.timeout(PATIENCE * (60 + 60 * CUTS))
@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_power_cut_loses_nothing_acknowledged(station, keep):
    """Of what was not flushed nothing is left, or half of the sectors."""
    rng = random.Random(f"{SEED} {keep}")
    for _ in range(CUTS):
        acknowledging(station)
        print(f"{station.cut_power(keep, rng, unflushed=rng.randint(1, 60))} sectors were not flushed")
        station.move()
        all_there_once(station)


@pytest.mark.timeout(PATIENCE * TRIES * 120 * CUTS)
def test_after_a_moment_of_failed_writes_nothing_acknowledged_is_lost(station):
    """The daemon ends, is started, acknowledges again; what it then acknowledges is on the disk too."""
    station.run(f"systemctl enable patch-gateway && sync -f / && sync -f {STATE}").ok()
    went_on = tries = 0
    while went_on < CUTS:
        assert tries < TRIES * CUTS, f"it went on in {went_on} runs of {tries}"
        tries += 1
        acknowledging(station)
        station.medium.fail_commit("write", lambda: ENDED in station.said())
        station.load.stop()
        went_on += goes_on(station)
        station.cut_power()
        station.boot()
        all_there_once(station)
    print(f"it went on in {went_on} runs of {tries}")


def goes_on(station):
    """Does it acknowledge again? The file system may have stopped itself: then it cannot, until the next boot."""
    station.wait_for(lambda: station.progress()[0] or station.run(STOPPED).out, 60, station.said)
    if station.run(STOPPED).out:
        return False
    station.load.start()
    station.wait_acknowledged(300)
    return True


def test_a_file_system_that_became_read_only_acknowledges_nothing(station):
    """An emergency remount: COMMIT goes on succeeding, and fsync does nothing."""
    acknowledging(station)
    station.run(f"echo u > /proc/sysrq-trigger; until grep -q '{STATE} ext4 ro' /proc/mounts; do sleep .05; done").ok()
    wait_for_the_end(station)
    assert "became read-only" in station.said()
    station.cut_power()
    station.move()
    all_there_once(station)


def test_reads_that_fail_end_it_until_they_work_again(station):
    acknowledging(station)
    station.disk.fail("read")
    station.run("echo 3 > /proc/sys/vm/drop_caches").ok()
    wait_for_the_end(station)
    station.disk.heal()
    station.wait_for(lambda: station.progress()[0], 60, station.said)
    all_there_once(station)


def test_a_file_system_that_stopped_itself_is_named_at_each_start(station):
    """A medium that has less room than it says: it refuses what the file system had promised. Only a boot helps."""
    acknowledging(station)
    station.disk.fail("write", error=errno.ENOSPC)
    wait_for_the_end(station)
    assert station.run(f"touch {STATE}/any; sync -f {STATE}; touch {STATE}/other; {STOPPED}").ok()
    station.disk.heal()
    station.wait_for(lambda: station.said().count("Main process exited") >= 2, 60, station.said)
    said = station.said()
    station.cut_power()
    station.move()
    all_there_once(station)
    assert "Traceback" not in said, said
    assert said.count(ENDED) >= 2


def test_what_comes_again_after_a_failed_flush_is_acknowledged_when_it_is_flushed(station):
    """The disk took it, but may forget it: the next process finds it, and must not call it a duplicate before."""
    acknowledging(station)
    station.load.stop()
    station.wait_for(lambda: station.load.publisher.waiting == 0 and station.status()["queue"]["unsaved"] == 0)
    station.medium.fail_commit("flush", lambda: ENDED in station.said(), lambda: station.load.publish_some(100))
    station.wait_for(lambda: station.progress("duplicate")[1] >= 100, 60, station.said)
    station.cut_power()
    station.move()
    all_there_once(station)

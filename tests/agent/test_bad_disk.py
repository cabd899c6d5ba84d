"""The daemon on a disk that is full, fails, became read-only, or is locked: nothing acknowledged is lost."""

import errno
import sqlite3
import subprocess
import time

import pytest
from faults import Faults, hurt
from publisher import Publisher, reading
from rig import PROGRAM, make_gateway, random_device, wait_for

EX_IOERR = 74


class Bedside:
    """A gateway with one patch over a real Mosquitto, on a disk that can be made to fail. It has no upstream."""

    def __init__(self, folder, broker):
        self.gateway = make_gateway(folder / "gateway", broker)
        self.state = folder / "gateway" / "state"
        self.faults = Faults(folder, self.state)
        hurt(self.gateway, self.faults)
        self.start()
        self.device = random_device()
        password = self.gateway.pair_mqtt(self.device)
        broker.reload()
        self.publisher = Publisher(broker.port, self.device, password)
        self.sent = 0
        self.publish(20)
        self.wait_stored(20)

    def start(self):
        self.gateway.start()
        self.gateway.wait_connected()

    def publish(self, count):
        for _ in range(count):
            self.sent += 1
            self.publisher.publish("sensor", reading(self.device, self.sent), self.sent)

    def wait_stored(self, count):
        try:
            wait_for(lambda: (self.gateway.ask("status") or {"queue": {}})["queue"].get("sensor") == count, what="rows")
        except AssertionError as error:
            shown = self.gateway.command("status").stdout
            raise AssertionError(f"{error}; status: {shown}; log: {self.gateway.log[-3_000:]}") from None

    def trouble(self):
        shown = self.gateway.ask("status")
        return shown and shown["buffer"]["trouble"]

    def all_there_once(self):
        """Counted in the file by another program, and by the product."""
        self.wait_stored(self.sent)
        self.gateway.stop()
        assert self.gateway.command("buffer", "verify").returncode == 0
        with sqlite3.connect(f"file:{self.state}/buffer.db?mode=ro", uri=True) as connection:
            assert connection.execute("SELECT count(*) FROM event WHERE lane = 2").fetchone() == (self.sent,)
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()

    def close(self):
        self.publisher.close()
        self.gateway.stop()


@pytest.fixture
def bedside(folder, broker):
    made = Bedside(folder, broker)
    yield made
    made.close()


def test_a_full_disk_is_waited_for(bedside):
    pid = bedside.gateway.process.pid
    bedside.faults.set(write=errno.ENOSPC)
    bedside.publish(30)
    wait_for(lambda: bedside.trouble() == "there is no room for more", what="the trouble")
    assert "NOTHING IS ACKNOWLEDGED: there is no room for more" in bedside.gateway.command("status").stdout
    bedside.publish(30)
    time.sleep(3)  # some tries
    bedside.faults.set()
    bedside.wait_stored(80)
    assert bedside.gateway.log.count("the reserve is used") == 1
    assert bedside.trouble() is None
    assert (bedside.gateway.process.pid, bedside.gateway.process.poll()) == (pid, None)
    bedside.all_there_once()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"write": errno.EIO}, id="writes fail", marks=pytest.mark.heavy),
        pytest.param({"write": errno.EIO, "once": 1}, id="one write fails"),
        pytest.param({"sync": errno.EIO, "once": 1}, id="one sync fails"),
        pytest.param({"write": errno.EROFS}, id="writes say read-only", marks=pytest.mark.heavy),
        pytest.param({"readonly": 1}, id="read-only, and commits succeed"),
    ],
)
def test_a_failing_disk_ends_the_daemon_at_once(bedside, fault):
    """Without a further write; started again, it takes what it had not acknowledged, once."""
    bedside.faults.set(**fault)
    bedside.publish(30)
    assert bedside.gateway.process.wait(30) == EX_IOERR
    assert "nothing more is acknowledged" in bedside.gateway.log
    if "readonly" not in fault:
        assert bedside.faults.failed > 0
    assert bedside.faults.written_after == 0, "closing or checkpointing would write"
    bedside.faults.clear()
    bedside.start()
    bedside.publish(5)
    bedside.all_there_once()


def test_reads_that_fail_end_it_too(bedside):
    bedside.faults.set(read=errno.EIO, once=1)
    for _ in range(20):
        bedside.gateway.command("buffer", "stats")
        if bedside.gateway.process.poll() is not None:
            break
    assert bedside.gateway.process.wait(10) == EX_IOERR
    assert bedside.faults.written_after == 0
    bedside.faults.clear()
    bedside.start()
    bedside.all_there_once()


def test_a_database_that_is_locked_is_waited_for(bedside):
    other = sqlite3.connect(bedside.state / "buffer.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    bedside.publish(30)
    wait_for(lambda: bedside.trouble() == "another program has the database locked", what="the trouble")
    assert bedside.gateway.process.poll() is None
    other.execute("ROLLBACK")
    other.close()
    bedside.wait_stored(50)
    assert bedside.trouble() is None
    bedside.all_there_once()


def test_a_command_on_a_failing_disk_says_so_and_writes_nothing(bedside):
    bedside.gateway.kill()  # what is in the WAL then would be written into the database by closing it
    bedside.faults.set(write=errno.EIO, once=1)
    command = [PROGRAM, "--config", bedside.gateway.settings, "unpair", bedside.device]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=30, env=bedside.gateway.environment
    )
    assert done.returncode == EX_IOERR
    assert "disk I/O error" in done.stderr
    assert bedside.faults.written_after == 0
    bedside.faults.clear()
    bedside.start()
    bedside.all_there_once()

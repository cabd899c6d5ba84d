"""`replay --into-buffer`: a capture through the same pipeline as the radio, into the gateway's own buffer."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from rig import BATCH, PATIENT, make_gateway, wait_for

from device_drivers.captures.pace import LONGEST_PAUSE, Pace
from device_drivers.emulated import cgm_capture

# One says that the session stopped
EVENTS = cgm_capture.RECORDS + 1
DEVICE, OTHER = "NFLX_0A1B2C3D", "NFLX_0A1B2C3E"


@pytest.fixture
def gateway(folder):
    made = make_gateway(folder / "gateway")
    yield made
    made.stop()


def pair(gateway, device_id, address):
    done = gateway.command(
        "pair", "--device-id", device_id, "--batch", BATCH, "--type", "diagnostic_sensor", "--address", address,
        "--passkey", "012345", "--patient", PATIENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def into(gateway, *more):
    return gateway.command("replay", "--into-buffer", str(cgm_capture.SHIPPED), *more)


def stored(gateway):
    """Events beside those of the pairing."""
    return sum(gateway.ask("status")["queue"].values()) - 1


def test_each_record_is_stored_once(gateway):
    pair(gateway, DEVICE, cgm_capture.ADDRESS)
    first = into(gateway)
    assert first.returncode == 0, first.stderr
    assert f"into the buffer: {EVENTS} durable" in first.stderr
    assert stored(gateway) == EVENTS
    again = into(gateway)
    assert "durable" not in again.stderr
    assert f"{cgm_capture.RECORDS} duplicate" in again.stderr
    assert stored(gateway) == EVENTS


def test_of_a_patch_that_is_not_paired_nothing_is_stored(gateway):
    pair(gateway, OTHER, "F0:F1:F2:F3:F4:00")
    done = into(gateway)
    assert done.returncode == 1
    assert f"{cgm_capture.ADDRESS} is not paired here" in done.stderr
    assert stored(gateway) == 0
    assert gateway.ask("status")["quarantine"]["entries"] == 0
    named = into(gateway, "--device", f"{cgm_capture.ADDRESS}={OTHER}")
    assert named.returncode == 0, named.stderr
    assert stored(gateway) == EVENTS


def test_what_is_damaged_on_purpose_is_set_aside_with_its_reason(gateway):
    pair(gateway, DEVICE, cgm_capture.ADDRESS)
    done = into(gateway, "--fault", "corrupt=1")
    assert done.returncode == 1
    assert "60 quarantined" in done.stderr
    shown = gateway.ask("status")["quarantine"]
    assert shown["entries"] > 30
    assert {"CRC"} == {word for item in shown["newest"] for word in item["reason"].split() if word == "CRC"}


def test_the_daemon_has_the_buffer(gateway):
    gateway.start()
    wait_for(lambda: (gateway.ask("status") or {}).get("daemon") == "running", what="the daemon")
    done = into(gateway)
    assert done.returncode == 1
    assert "needs it stopped" in done.stderr


def test_it_prints_no_events(gateway):
    done = into(gateway, "--json")
    assert done.returncode == 2
    assert "--into-buffer prints no events" in done.stderr


def test_the_speed_of_the_captures_own_clock():
    start = datetime(1970, 1, 1, tzinfo=UTC)
    pace, now = Pace(60.0), 1_000.0
    assert pace.wait(start, now) == 0
    assert pace.wait(start + timedelta(minutes=1), now) == 1.0
    assert pace.wait(start + timedelta(minutes=2), now + 1.5) == 0.5, "lateness is made up for"
    assert pace.wait(start, now + 5) == 0, "backwards is no pause"
    set_right = datetime(2026, 11, 24, tzinfo=UTC)
    assert pace.wait(set_right, now + 2) == LONGEST_PAUSE / 60


def test_speed_on_the_command_line(gateway):
    """The session lasts an hour."""
    started = time.monotonic()
    done = gateway.command("replay", str(cgm_capture.SHIPPED), "--speed", "2000")
    assert done.returncode == 0
    assert time.monotonic() - started >= 3_600 / 2_000
    assert "--speed 0" in gateway.command("replay", str(cgm_capture.SHIPPED), "--speed", "0").stderr

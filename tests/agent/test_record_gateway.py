"""`capture record --gateway`: what the running gateway gets of its patches, recorded without a controller."""

import asyncio
import io
import stat
import subprocess
from datetime import UTC, datetime

import pytest
from rig import PROGRAM, make_gateway

from agent.app import run_gateway
from agent.demo.budget import Budget
from agent.demo.capture_link import CaptureLink
from agent.replay import Replay
from agent.taps import Taps
from config.load import load
from device_drivers.base import Frame
from device_drivers.captures import Capture
from device_drivers.emulated import cgm_capture
from device_drivers.profiles.battery import LEVEL

DEVICE = "NFLX_0A1B2C3D"


@pytest.fixture
def gateway(folder):
    made = make_gateway(folder / "gateway")
    yield made
    made.stop()


async def record(gateway, target, *more):
    command = [PROGRAM, "--config", gateway.settings, "capture", "record", "--gateway", target, *more]
    return await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def test_what_is_recorded_decodes_as_it_did(gateway, tmp_path):
    begun, stop = asyncio.Event(), asyncio.Event()
    link = CaptureLink(cgm_capture.SHIPPED, DEVICE, Budget(40), lambda: 0.001)
    playing = link.run

    async def run():
        await begun.wait()
        await playing()

    link.run = run
    running = asyncio.create_task(run_gateway(load(gateway.settings), stop, [link]))
    while not (gateway.folder / "run" / "control.sock").exists():
        await asyncio.sleep(0.05)
    recorder = await record(gateway, tmp_path / "own.jsonl")
    assert b"Recording" in await recorder.stderr.readline()
    begun.set()
    await link.done.wait()
    await asyncio.sleep(0.2)
    recorder.terminate()
    shown, _ = await recorder.communicate()
    assert recorder.returncode == 0
    assert DEVICE in shown.decode()
    again = await record(gateway, tmp_path / "own.jsonl")
    assert b"exists already" in (await again.communicate())[1]
    silent = await record(gateway, tmp_path / "silent.jsonl", "--seconds", "0.2")
    assert b"nothing was recorded" in (await silent.communicate())[1]
    assert not (tmp_path / "silent.jsonl").exists()
    cut = await record(gateway, tmp_path / "cut.jsonl")
    await cut.stderr.readline()
    stop.set()
    assert b"the daemon ended it" in (await cut.communicate())[1]
    await running
    assert stat.S_IMODE((tmp_path / "own.jsonl").stat().st_mode) == 0o600
    replay = Replay({})
    with (tmp_path / "own.jsonl").open("rb") as stream:
        events = [found.event for found in replay.events(replay.operations(stream)) if found.event]
    assert len(events) == link.made == 40
    assert {event["data"]["device_id"] for event in events} == {DEVICE}


async def test_without_a_daemon(gateway, tmp_path):
    done = await record(gateway, tmp_path / "own.jsonl")
    assert b"no daemon runs with these settings" in (await done.communicate())[1]
    assert done.returncode == 1
    assert not list(tmp_path.iterdir())


def test_a_recording_that_is_not_written_fast_enough_ends():
    """It keeps what it has; the frames of the patch go on."""
    taps = Taps()
    frame = Frame(DEVICE, LEVEL, b"\x55", datetime.now(UTC))
    with taps.open() as slow, taps.open() as fast:
        for _ in range(20_000):
            taps.offer([frame])
            fast.lines.get_nowait()
        lines = [slow.lines.get_nowait() for _ in range(slow.lines.qsize())]
    assert lines[-1] is None
    whole = b"".join(lines[:-1])
    assert len(list(Capture().operations(io.BytesIO(whole)))) == len(lines) - 2 < 20_000

"""`replay` on the command line: exit codes, frames, events, devices, damage."""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rig import PROGRAM

from device_drivers.base import Channel
from device_drivers.byte_reader import crc16
from device_drivers.captures import jsonl
from device_drivers.captures.base import AttOperation, CaptureError
from device_drivers.captures.faults import Faults
from device_drivers.emulated import cgm, cgm_capture
from schemas.envelope import ENVELOPE

CAPTURE = cgm_capture.SHIPPED
NOW = datetime(2026, 11, 24, tzinfo=UTC)
TANDEM = Path(__file__).parents[3] / "shared" / "captures" / "tandem_tslimx2_pump.btsnoop.log"
DEVICE = f"{cgm_capture.ADDRESS}=NFLX_0A1B2C3D"


def replay(*arguments):
    command = [PROGRAM, "replay", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/")
    return done, [json.loads(line) for line in done.stdout.splitlines()] if "--json" in arguments else []


def test_events_as_they_would_be_sent():
    done, events = replay("--json", "--device", f"{DEVICE},diagnostic_sensor,7", CAPTURE)
    assert done.returncode == 0
    readings = [event for event in events if event["type"] == "sensor_reading"]
    assert len(readings) == cgm_capture.RECORDS
    assert [event["data"]["code"] for event in events if event not in readings] == ["session_stopped"]
    assert [event["idempotency_key"] for event in events[:2]] == ["NFLX_0A1B2C3D.cgm.7.0", "NFLX_0A1B2C3D.cgm.7.1"]
    for event in events:
        ENVELOPE.validate_json(json.dumps(event))
    assert [event["data"]["reading_value"] for event in readings] == [float(r.glucose) for r in cgm_capture.records()]


def test_another_boot_has_other_keys():
    keys = [{event["idempotency_key"] for event in replay("--json", "--device", f"{DEVICE},diagnostic_sensor,{boot}",
             CAPTURE)[1]} for boot in (1, 2)]  # fmt: skip
    assert not keys[0] & keys[1]


def test_a_device_nobody_named_is_marked():
    done, _ = replay(CAPTURE)
    assert "(unpaired)" in done.stdout
    assert "61 events, 0 refused" in done.stderr


def test_frames():
    done, frames = replay("--frames", "--json", CAPTURE)
    assert done.returncode == 0
    first = next(frame for frame in frames if frame["att"] == "notification")
    assert list(first) == ["frame", "time", "device", "handle", "characteristic", "att", "opcode", "value"]
    assert (first["frame"], first["time"]) == (12, "2026-11-01T08:01:00.330000Z")
    assert (first["device"], first["characteristic"]) == (cgm_capture.ADDRESS, "2aa7")


def test_a_corrupt_record_is_refused_and_the_rest_decoded(tmp_path):
    content = bytearray(CAPTURE.read_bytes())
    content[-1] ^= 1
    (tmp_path / "corrupt.btsnoop").write_bytes(content)
    done, events = replay("--json", tmp_path / "corrupt.btsnoop")
    assert (done.returncode, len(events)) == (0, cgm_capture.RECORDS - 1)
    assert "1 refused" in done.stderr
    assert "wrong CRC" in replay(tmp_path / "corrupt.btsnoop")[0].stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content[:-5], "truncated"),
        (lambda content: b"\xff\xd8\xff\xe0" + content[4:], "a JPEG picture"),
        (lambda content: content[:20] + b"\x7f\xff\xff\xff" + content[24:], "record 1 is damaged"),
    ],
)
def test_damage_exits_1_with_a_sentence(tmp_path, change, words):
    path = tmp_path / "damaged.log"
    path.write_bytes(change(CAPTURE.read_bytes()))
    for options in ([], ["--frames"], ["--json"]):
        done, _ = replay(*options, path)
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there():
    done, _ = replay("/nonexistent")
    assert (done.returncode, "/nonexistent cannot be used: No such file" in done.stderr) == (1, True)


@pytest.mark.parametrize("argument", ["x", "A=NFLX_1", "A=NFLX_0A1B2C3D,toaster", "=NFLX_0A1B2C3D"])
def test_a_wrong_device_argument(argument):
    assert replay("--device", argument, CAPTURE)[0].returncode == 2


def test_real_pump(tmp_path):
    if not TANDEM.exists():
        pytest.skip("the shared captures are not beside this checkout (../shared/captures)")
    done, frames = replay("--frames", "--json", TANDEM)
    notifications = [frame for frame in frames if frame["att"] == "notification"]
    assert (done.returncode, len(notifications)) == (0, 306)
    assert all(frame["handle"] and frame["characteristic"] for frame in notifications)
    plain, _ = replay(TANDEM)
    assert plain.returncode == 0
    assert "no profile decodes any of them" in plain.stderr
    cut = tmp_path / "cut.log"
    cut.write_bytes(TANDEM.read_bytes()[:-7])
    for options in ([], ["--frames", "--json"]):
        done, _ = replay(*options, cut)
        assert (done.returncode, "truncated" in done.stderr) == (1, True)


def test_expect_and_update(tmp_path):
    path = tmp_path / "expected.jsonl"
    assert replay("--expect", path, "--update", CAPTURE)[0].returncode == 0
    assert replay("--expect", path, CAPTURE)[0].returncode == 0
    path.write_bytes(path.read_bytes().replace(b'"reading_value":122.0', b'"reading_value":121.0', 1))
    done, _ = replay("--expect", path, CAPTURE)
    assert done.returncode == 1
    assert "data.reading_value: expected 121.0, found 122.0" in done.stdout
    assert replay("--update", CAPTURE)[0].returncode == 2
    assert replay("--expect", path, CAPTURE, CAPTURE)[0].returncode == 2
    path.write_text("nothing")
    done, _ = replay("--expect", path, CAPTURE)
    assert (done.returncode, "--update writes one" in done.stderr) == (1, True)


@pytest.mark.parametrize("kind", ["drop", "duplicate", "reorder", "corrupt", "truncate", "delay"])
def test_faults_are_the_same_for_the_same_seed(kind):
    once, again, other = (
        replay("--frames", "--json", "--fault", f"{kind}=0.3", "--seed", seed, CAPTURE) for seed in (5, 5, 6)
    )
    plain = replay("--frames", "--json", CAPTURE)[1]
    assert once[1] == again[1]
    assert once[1] not in (plain, other[1])
    assert f" {kind}" in once[0].stderr
    by_itself = {"notification", "indication"}
    assert [f for f in once[1] if f["att"] not in by_itself] == [f for f in plain if f["att"] not in by_itself]


def test_gaps_and_duplicates_are_counted():
    assert "gaps" not in replay(CAPTURE)[0].stderr
    for fault, words in (("drop=0.2", " gaps in sequence, 0 duplicates"), ("duplicate=0.2", "0 gaps in sequence, ")):
        assert words in replay("--fault", fault, CAPTURE)[0].stderr


@pytest.mark.parametrize("argument", ["drop", "drop=2", "drop=-1", "explode=0.1", "drop=nan"])
def test_a_wrong_fault_argument(argument):
    assert replay("--fault", argument, CAPTURE)[0].returncode == 2


def test_a_table_names_the_handles(tmp_path):
    content = CAPTURE.read_bytes()
    (tmp_path / "middle.btsnoop").write_bytes(content[:16] + content[content.index(b"\x1b\x16\0") - 9 - 24 :])
    table = tmp_path / "gatt.json"
    table.write_text('{"0x0016": ["181f", "2aa7"]}')
    done, _ = replay(tmp_path / "middle.btsnoop")
    assert "no profile decodes any of them" in done.stderr
    device = "connection-0x0040=NFLX_0A1B2C3D,diagnostic_sensor,1"
    _, events = replay("--json", "--gatt", table, "--device", device, tmp_path / "middle.btsnoop")
    assert len([event for event in events if event["type"] == "sensor_reading"]) == cgm_capture.RECORDS
    table.write_text("[]")
    assert replay("--gatt", table, CAPTURE)[0].returncode == 2


def capture(*arguments):
    command = [PROGRAM, "capture", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd="/")


@pytest.mark.parametrize("name", ["a.jsonl", "a.btsnoop", "a.pcapng"])
def test_convert(tmp_path, name):
    assert capture("convert", CAPTURE, tmp_path / name).returncode == 0
    assert replay("--frames", "--json", tmp_path / name)[1] == replay("--frames", "--json", CAPTURE)[1]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_convert_into_a_pipe_or_a_link_writes_to_it(tmp_path):
    """Renaming would put a file where the device was."""
    assert capture("convert", CAPTURE, tmp_path / "file.jsonl").returncode == 0
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with ThreadPoolExecutor() as pool:
        piped = pool.submit((tmp_path / "pipe.jsonl").read_bytes)
        for name in ("pipe.jsonl", "link.jsonl"):
            assert capture("convert", CAPTURE, tmp_path / name).returncode == 0
        assert piped.result() == (tmp_path / "target").read_bytes() == (tmp_path / "file.jsonl").read_bytes()
    assert (tmp_path / "pipe.jsonl").is_fifo()
    assert (tmp_path / "link.jsonl").is_symlink()


def test_convert_says_what_it_cannot(tmp_path):
    assert "--format" in capture("convert", CAPTURE, tmp_path / "a").stderr
    (tmp_path / "cut").write_bytes(CAPTURE.read_bytes()[:-3])
    done = capture("convert", tmp_path / "cut", tmp_path / "a.jsonl")
    assert (done.returncode, "truncated" in done.stderr) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]
    capture("convert", CAPTURE, tmp_path / "b.jsonl")
    assert "no packets" in capture("convert", tmp_path / "b.jsonl", tmp_path / "c.btsnoop").stderr


def test_info():
    done = capture("info", "--json", CAPTURE)
    found = json.loads(done.stdout)
    assert (done.returncode, found["format"], found["connections"]) == (0, "btsnoop", 1)
    assert found["devices"] == {cgm_capture.ADDRESS: {"181f": 64}}
    assert found["att"]["notification"] == cgm_capture.RECORDS
    assert "60 notification" in capture("info", CAPTURE).stdout
    assert capture("info", __file__).returncode == 1


def test_record_says_what_it_needs(tmp_path, monkeypatch):
    from agent import record_command

    there = tmp_path / "there.btsnoop"
    there.touch()
    monkeypatch.setattr(record_command.shutil, "which", lambda _: None)
    assert "apt-get install bluez" in record_command._problem(tmp_path / "new.btsnoop")
    monkeypatch.setattr(record_command.shutil, "which", lambda name: name)
    monkeypatch.setattr(record_command.os, "geteuid", lambda: 1000)
    assert "needs root" in record_command._problem(tmp_path / "new.btsnoop")
    monkeypatch.setattr(record_command.os, "geteuid", lambda: 0)
    assert "exists already" in record_command._problem(there)
    assert "does not exist" in record_command._problem(tmp_path / "no/new.btsnoop")
    assert record_command._problem(tmp_path / "new.btsnoop") is None


def test_a_link_to_the_source_is_no_target(tmp_path):
    source = tmp_path / "a.jsonl"
    assert capture("convert", CAPTURE, source).returncode == 0
    before = source.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(source)
    for action in ("convert", "scrub"):
        done = capture(action, source, tmp_path / "link.jsonl")
        assert done.returncode == 1
        assert "is what is read" in done.stderr
    assert source.read_bytes() == before


def test_who_could_not_read_the_source_cannot_read_what_it_becomes(tmp_path):
    source = tmp_path / "a.btsnoop"
    source.write_bytes(CAPTURE.read_bytes())
    source.chmod(0o600)
    assert capture("convert", source, tmp_path / "b.jsonl").returncode == 0
    assert (tmp_path / "b.jsonl").stat().st_mode & 0o777 == 0o600


def test_the_model_selects_the_quirks(tmp_path):
    """As on the gateway: Guardian 4 has CRCs of its own."""
    glucose = cgm.measurement(cgm.Record(120, 5, trend=20, quality=90))[:-2]
    start = cgm.session_start(NOW)[:-2]
    lines = [jsonl.HEADER]
    for channel, value in (
        (("180a", "2a24"), b"Guardian 4\0"),
        (("181f", "2aa8"), bytes.fromhex("009001591404")),
        (("181f", "2aaa"), start + crc16(start, "ccitt_false").to_bytes(2, "little")),
        (("181f", "2aa7"), glucose + crc16(glucose, "ccitt_false").to_bytes(2, "little")),
    ):
        read = AttOperation(len(lines), NOW, cgm_capture.ADDRESS, 1, Channel(*channel), "read", value)
        lines.append(jsonl.line(read))
    (tmp_path / "guardian.jsonl").write_bytes(b"".join(lines))
    done, _ = replay(tmp_path / "guardian.jsonl")
    assert "0 refused" in done.stderr
    assert "reading_value=120.0" in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed", "3"], "--seed is of the faults"),
        (["--speed", "0"], "--speed 0"),
        (["--speed", "nan"], "--speed nan"),
        (["--device", DEVICE, "--device", DEVICE], "names one address twice"),
        (["--fault", "drop=0.1", "--fault", "drop=0.2"], "is given twice"),
        (["--expect", "x", "--json"], "without --frames and --json"),
        (["--into-buffer", "--device", f"{DEVICE},diagnostic_sensor"], "--into-buffer takes type and keys"),
    ],
)
def test_options_that_do_nothing_are_refused(options, words, tmp_path):
    config = tmp_path / "gateway.toml"
    config.write_text(f'[gateway]\nstate_dir = "{tmp_path}"\n')
    command = [PROGRAM, "--config", config, "replay", *options, CAPTURE]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/")
    assert done.returncode == 2
    assert words in done.stderr


def test_a_pipe_is_no_capture(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as pool:
        pool.submit((tmp_path / "pipe").write_bytes, CAPTURE.read_bytes())
        done, _ = replay(tmp_path / "pipe")
    assert done.returncode == 1
    assert "it is a pipe" in done.stderr


def test_faults_at_the_ends_of_a_file_and_of_time():
    late = AttOperation(1, datetime.max.replace(tzinfo=UTC), "x", 1, Channel("1", "2"), "notification", b"x")
    assert [o.value for o in Faults({"delay": 1.0}, 1).apply([late])] == [b"x"]

    def damaged():
        yield late
        raise CaptureError("here")

    found = []
    with pytest.raises(CaptureError):
        found.extend(Faults({"reorder": 1.0}, 1).apply(damaged()))
    given = Faults({"reorder": 1.0}, 1).apply(damaged())
    assert next(given) == late


def test_times_are_shown_in_utc(tmp_path):
    line = b'{"time":"2026-11-24T10:15:30+02:00","device":"x","handle":1,"att":"notification","value":"00"}\n'
    (tmp_path / "a.jsonl").write_bytes(jsonl.HEADER + line)
    _, (found,) = replay("--frames", "--json", tmp_path / "a.jsonl")
    assert found["time"] == "2026-11-24T08:15:30.000000Z"

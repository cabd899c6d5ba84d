"""The plugin as a firmware team meets it: a project of its own, a capture, a red test that says what differs."""

import io
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import capture_formats as formats
import pytest

from agent import expected
from agent.replay import Replay
from device_drivers.captures import btsnoop
from device_drivers.emulated import cgm_capture

TEST = """\
import pytest

@pytest.mark.captures("captures")
def test_our_patch(replay, capture):
    assert len(replay.expect(capture).of_type("sensor_reading")) == 60

def test_with_faults(replay):
    results = [replay("captures/session.btsnoop", faults={"drop": 0.5}, seed=seed) for seed in (7, 7, 8)]
    counts = [len(result.events) for result in results]
    assert counts[0] == counts[1] < 61
    assert results[0].events != results[2].events
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "captures").mkdir()
    shutil.copy(cgm_capture.SHIPPED, tmp_path / "captures/session.btsnoop")
    (tmp_path / "test_patch.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def run(project, *options):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=project)


def test_from_nothing_to_green_to_red(project):
    first = run(project)
    assert "`pytest --capture-update` writes it" in first.stdout
    assert run(project, "--capture-update").returncode == 0
    assert run(project).returncode == 0
    capture = project / "captures/session.btsnoop"
    content = bytearray(capture.read_bytes())
    content[-8] ^= 4
    capture.write_bytes(content)
    red = run(project, "-k", "our_patch")
    assert red.returncode == 1
    for words in ("record 71  2026-11-01T09:00:00.330000+00:00", "octets expected  0d837f003b0001", "octets found     ",
                  "found     refused: wrong CRC (mcrf4xx)", "reading_value=127.0"):  # fmt: skip
        assert words in red.stdout
    assert "Traceback" not in red.stdout


def test_a_record_in_front_changes_nothing_else(project):
    run(project, "--capture-update")
    capture = project / "captures/session.btsnoop"
    content = capture.read_bytes()
    first = next(btsnoop.records(io.BytesIO(content)))
    capture.write_bytes(content[:16] + btsnoop.record(first.time, b"\x04\xff\x00", sent=False) + content[16:])
    assert run(project).returncode == 0


def test_the_plugin_alone_imports_nothing_of_the_gateway(project):
    (project / "test_lazy.py").write_text(
        "import sys\n\ndef test_lazy():\n    assert not {'agent.replay', 'pydantic'} & sys.modules.keys()\n"
    )
    assert run(project, "test_lazy.py").returncode == 0


def test_a_folder_without_captures(project):
    shutil.rmtree(project / "captures")
    assert "no capture stands in" in run(project).stdout


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "does not begin with"), (expected.HEADER + b"{}\n", "line 2"), (b"x", "version 1")]
)
def test_expectations_that_cannot_be_read(content, words):
    with pytest.raises(expected.ExpectedError, match=words):
        expected.read(content)


def test_what_cannot_be_read_is_red_and_gets_no_expected_file(project):
    (project / "captures/.hidden").write_bytes(b"x")
    air = formats.Air(datetime(2026, 11, 24, tzinfo=UTC), trouble=0)
    air.connect(cgm_capture.ADDRESS, 0x50123456)
    air.encrypt()
    air.att(b"\x1b\x16\0secret", sent=False)
    (project / "captures/encrypted.pcap").write_bytes(formats.pcap(air.packets(256), 256))
    (project / "captures/notes.txt").write_text("no capture")
    updated = run(project, "--capture-update", "-k", "our_patch")
    assert "1 passed" in updated.stdout or "2 failed" in updated.stdout
    assert "frames are encrypted" in updated.stdout
    assert "notes.txt is damaged: this is not a capture" in updated.stdout
    assert ".hidden" not in updated.stdout
    assert [path.name for path in (project / "captures").glob("*.expected.jsonl")] == ["session.btsnoop.expected.jsonl"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('replay("captures/session.btsnoop", faults={"corupt": 1.0})', "faults: corupt=1.0"),
        ('replay("captures/session.btsnoop", faults={"drop": 7})', "faults: drop=7"),
        ('replay("captures/session.btsnoop", device="garbage")', "the form is ADDRESS=NFLX_"),
        (
            'replay("captures/session.btsnoop", device="C0:00:00:00:00:01=NFLX_0A1B2C3D")',
            "C0:00:00:00:00:01 is not in it",
        ),
        ('replay("captures/gone.btsnoop")', "there is no file"),
    ],
)
def test_a_wrong_use_is_said_in_one_sentence(project, body, words):
    (project / "test_patch.py").write_text(f"def test_it(replay):\n    {body}\n")
    done = run(project)
    assert done.returncode == 1
    assert words in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("@pytest.mark.captures", "the marker names a folder"),
        ('@pytest.mark.captures("nowhere")', "no capture stands in"),
        ("", "`capture` comes from a marker"),
    ],
)
def test_a_wrong_marker(project, marker, words):
    (project / "test_patch.py").write_text(f"import pytest\n\n{marker}\ndef test_it(replay, capture):\n    pass\n")
    done = run(project)
    assert done.returncode != 0
    assert words in done.stdout
    assert "pluggy" not in done.stdout


def test_an_expected_file_without_its_capture(project):
    assert run(project, "--capture-update").returncode == 0
    (project / "captures/session.btsnoop").rename(project / "captures/other.btsnoop")
    assert "the capture that it belongs to is not there" in run(project).stdout


def test_numbers_and_order_are_compared():
    capture = io.BytesIO(cgm_capture.SHIPPED.read_bytes())
    replay = Replay({})
    lines = [expected.line_of(found) for found in replay.events(replay.operations(capture))]
    assert list(expected.differences(lines, lines)) == []
    whole = expected.read(expected.write(lines).replace(b'"reading_value":127.0', b'"reading_value":127'))
    assert len(list(expected.differences(whole, lines))) == expected.write(lines).count(b'"reading_value":127.0')
    (other,) = expected.differences(lines, [*lines[:7], lines[8], lines[7], *lines[9:]])
    assert "the order differs" in other


def test_only_expected_files_are_written_anew(tmp_path):
    (tmp_path / "capture").write_bytes(b"btsnoop\0 ...")
    with pytest.raises(expected.ExpectedError, match="not overwritten"):
        expected.replace(tmp_path / "capture", [])
    expected.replace(tmp_path / "new", [])
    expected.replace(tmp_path / "new", [])

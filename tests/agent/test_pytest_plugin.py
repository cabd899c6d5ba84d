"""The plugin as a firmware team meets it: a project of its own, a capture, a red test that says what differs."""

import io
import shutil
import subprocess
import sys

import pytest

from agent import expected
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

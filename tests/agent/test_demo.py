"""`make run`, headless: every count agrees, through an outage; what is kept can be opened again."""

import json
import subprocess
import sys

import pytest
from rig import PROGRAM

from agent.demo.processes import DemoError, find_mosquitto
from agent.demo.result import Result


def demo(*arguments):
    done = subprocess.run([PROGRAM, "demo", *arguments], check=False, capture_output=True, text=True, timeout=110)
    return done, json.loads(done.stdout.splitlines()[-1]) if "--json" in arguments and done.stdout else None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["usb:0", "--address", "xx"], "six pairs of hex digits"),
        (["usb:0", "--address", "00:FF:EE:00:00:04"], "the first from C0 to FF"),
        (["usb:0", "--passkey", "1000000"], "six digits"),
        (["usb"], "none of bumble's: usb:VID:PID"),
        (["blah"], "none of bumble's"),
    ],
)
def test_wrong_arguments_of_the_emulated_radio(arguments, words):
    command = [sys.executable, "-m", "device_drivers.emulated.radio", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


def test_the_emulated_radio_without_its_library(tmp_path):
    """`find_spec` finds no bumble where its place in sys.modules is taken by None."""
    run = "import runpy, sys; sys.modules['bumble'] = None; runpy.run_module('device_drivers.emulated.radio', run_name="
    command = [sys.executable, "-c", f"{run}'__main__')"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "pip install 'patch-gateway[demo]'" in done.stderr) == (2, True), done.stderr


def test_once_with_an_outage(folder):
    done, result = demo("--once", "300", "--outage", "2", "--json", "--keep", str(folder / "kept"))
    assert done.returncode == 0, done.stderr
    assert {result[name] for name in ("made", "durable", "acknowledged", "postgresql")} == {300}
    assert result["clickhouse"] in (300, None)
    assert (result["duplicates"], result["lost"]) == (0, 0)
    assert result["own"] == 8, "device_activation and patch_application of four patches"
    assert "Upstream cut for 2 s" in done.stderr
    assert "patch-central serve" in done.stderr
    config = folder / "kept" / "gateway.toml"
    shown = subprocess.run([PROGRAM, "--config", config, "patches"], check=True, capture_output=True, text=True)
    assert shown.stdout.startswith("4 paired")
    again, _ = demo("--once", "1", "--keep", str(folder / "kept"))
    assert again.returncode == 1
    assert "not empty" in again.stderr


def test_without_mosquitto(monkeypatch):
    monkeypatch.setattr("agent.demo.processes.Path.exists", lambda _: False)
    with pytest.raises(DemoError, match="sudo apt-get install mosquitto"):
        find_mosquitto()


def test_a_result_that_differs_is_not_called_fine():
    good = {"made": 5, "durable": 5, "acknowledged": 5, "postgresql": 5, "clickhouse": 5, "duplicates": 0, "lost": 0}
    assert Result(**good, own=8).agrees
    assert Result(**good | {"clickhouse": None}, own=8).agrees
    for change in ({"durable": 4}, {"clickhouse": 6}, {"duplicates": 1}, {"lost": 1}, {"acknowledged": 6}):
        assert not Result(**good | change, own=8).agrees

"""docs/adding-a-device.md, done: the file, the row and the capture of the page give what the page says."""

import importlib.util
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.replay import Replay, parse_device
from device_drivers import registry
from device_drivers.device_types import DEVICE_TYPES
from device_drivers.registry import gatt_plans

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-device.md").read_text()
NAME = "maker_thermometer"


def block(language, number=0):
    """One code block of the page."""
    return PAGE.split(f"```{language}\n")[number + 1].partition("```")[0]


class EntryPoint:
    """As a package of its own would name the module."""

    def __init__(self, path, name=NAME):
        self._path, self.name = path, name

    def load(self):
        spec = importlib.util.spec_from_file_location(NAME, self._path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


@pytest.fixture
def thermometer(tmp_path, monkeypatch):
    (tmp_path / f"{NAME}.py").write_text(block("python"))
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint(tmp_path / f"{NAME}.py")])
    row = DEVICE_TYPES["diagnostic_sensor"]
    monkeypatch.setitem(DEVICE_TYPES, "diagnostic_sensor", replace(row, profiles=row.profiles | {NAME}))
    registry.all_profiles.cache_clear()
    yield
    registry.all_profiles.cache_clear()
    sys.modules.pop(NAME, None)


@pytest.mark.usefixtures("thermometer")
def test_the_page_works():
    address, device = parse_device("C0:FF:EE:00:00:09=NFLX_0A1B2C3D,diagnostic_sensor")
    replay = Replay({address: device})
    found = list(replay.events(replay.operations(io.BytesIO(block("json").encode()))))
    assert replay.damage is None
    event, refused = found
    assert event.event["idempotency_key"] == "NFLX_0A1B2C3D.thermometer.7.1"
    assert event.event["data"]["reading_value"] == 36.9
    assert "five octets" in refused.refused
    assert json.dumps(event.event)


@pytest.mark.usefixtures("thermometer")
def test_its_plan_is_part_of_every_connection():
    plans = gatt_plans(DEVICE_TYPES["diagnostic_sensor"].profiles)
    assert [plan.service for plan in plans] == ["180a", "1805", "180f", "feed", "181f"]


@pytest.mark.usefixtures("thermometer")
def test_another_boot_gives_other_keys():
    address, device = parse_device("C0:FF:EE:00:00:09=NFLX_0A1B2C3D,diagnostic_sensor,12")
    replay = Replay({address: device})
    event, _ = replay.events(replay.operations(io.BytesIO(block("json").encode())))
    assert event.event["idempotency_key"] == "NFLX_0A1B2C3D.thermometer.12.1"


@pytest.mark.usefixtures("thermometer")
def test_what_a_row_does_not_name_is_not_decoded():
    address, device = parse_device("C0:FF:EE:00:00:09=NFLX_0A1B2C3D,insulin_patch")
    replay = Replay({address: device, "C0:FF:EE:00:00:0A": device})
    assert list(replay.events(replay.operations(io.BytesIO(block("json").encode())))) == []
    row = f"{NAME} is not in the row of insulin_patch (device_drivers/device_types.py)"
    assert replay.notes == [f"{row}: the gateway would not read it", "C0:FF:EE:00:00:0A is not in this capture"]


def test_a_decoder_that_raises_is_named(thermometer, tmp_path, monkeypatch, capsys):
    from agent.replay_command import Options, replay_files

    def receive(self, frame):
        raise KeyError("oops")

    profile = registry.all_profiles()[NAME]
    monkeypatch.setattr(profile.ThermometerDecoder, "receive", receive)
    (tmp_path / "thermometer.jsonl").write_text(block("json"))
    assert replay_files([tmp_path / "thermometer.jsonl"], [], Options()) == 1
    said = capsys.readouterr().err
    assert f"thermometer.jsonl, frame 2: the profile {NAME} has a bug (KeyError: 'oops')" in said


def test_a_plug_in_that_cannot_be_imported_is_left_out(tmp_path, monkeypatch, caplog):
    (tmp_path / "broken.py").write_text("import no_such_module")
    (tmp_path / "empty.py").write_text("")
    found = [EntryPoint(tmp_path / f"{name}.py", name) for name in ("broken", "empty")]
    monkeypatch.setattr(registry, "entry_points", lambda group: found)
    registry.all_profiles.cache_clear()
    try:
        assert not {"broken", "empty"} & registry.all_profiles().keys()
        assert [record.getMessage().split()[1] for record in caplog.records] == ["broken", "empty"]
        assert registry.row_problem() is None
    finally:
        registry.all_profiles.cache_clear()


def test_a_row_with_an_unknown_profile_stops_the_daemon(monkeypatch, capsys):
    from agent import daemon
    from config.settings import Settings

    row = DEVICE_TYPES["diagnostic_sensor"]
    monkeypatch.setitem(DEVICE_TYPES, "diagnostic_sensor", replace(row, profiles=row.profiles | {"maker_thermo"}))
    monkeypatch.setattr(daemon.logs, "set_up", lambda *_: None)
    assert daemon.run_daemon(Settings()) == 1
    said = capsys.readouterr().err
    assert "row of diagnostic_sensor" in said
    assert "maker_thermo," in said
    assert said.count("\n") == 1


def test_the_row_of_the_page_names_the_profile():
    assert f'"{NAME}"' in block("python", 1)

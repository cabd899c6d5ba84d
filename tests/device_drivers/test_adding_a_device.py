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

    name = NAME

    def __init__(self, path):
        self._path = path

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
    found = list(replay.events(io.BytesIO(block("json").encode())))
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


def test_the_row_of_the_page_names_the_profile():
    assert f'"{NAME}"' in block("python", 1)

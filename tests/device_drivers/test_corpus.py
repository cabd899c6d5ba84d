"""Our own corpus: an emulated patch on a real BlueZ, recorded by btmon (`make test-vm`), written on by editcap."""

from pathlib import Path

import pytest

CORPUS = Path(__file__).parents[1] / "captures"


@pytest.mark.captures("../captures")
def test_a_session_recorded_by_btmon(replay, capture):
    """`pytest --capture-update` writes the expected file anew: read what changed in it."""
    result = replay.expect(capture, CORPUS / "cgm_btmon.expected.jsonl")
    assert len(result.of_type("sensor_reading")) == 81
    assert {data["code"] for data in result.of_type("audit_trail")} == {"device_battery_low", "battery_level"}
    assert result.refused == []

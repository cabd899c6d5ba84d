"""A buffer of every earlier schema opens, with all that is in it, and goes on."""

import json
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from buffer import database
from buffer.lanes import Lane
from buffer.quarantine import Limits
from buffer.store import EventBuffer

OLD = sorted((Path(__file__).parent / "old").glob("*.sql"), key=lambda path: int(path.stem))
KEK = bytes(32)
PATCH, UNPAIRED = "NFLX_0A1B2C00", "NFLX_0A1B2C01"


def test_every_schema_that_was_ever_on_main_is_here():
    """A new migration comes with the database that the version before it, and it itself, writes."""
    assert [int(path.stem) for path in OLD] == [number for number, _ in database.migrations()]


@pytest.mark.parametrize("old", OLD, ids=lambda path: f"schema {path.stem}")
async def test_nothing_is_lost_by_a_migration(old, tmp_path):
    path = tmp_path / "buffer.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(old.read_text())
    connection.close()
    buffer = await EventBuffer.open(path, KEK, gateway_id="gw-old", limits=Limits(1 << 20, 3), tick=0.01)
    events = Counter()
    for lane in Lane:
        claim = await buffer.claim(lane, 1_000, 1 << 20)
        assert not claim.damaged
        for event in claim.events:
            events[json.loads(event.body)["type"]] += 1
    assert events == {"device_activation": 2, "sensor_reading": 5}
    assert buffer.held == (1 if int(old.stem) >= 3 else 0)
    entries = await buffer.look.quarantine_entries()
    assert Counter(item.sender for _, _, item in entries) == {"NFLX_STRANGER": 3, PATCH: 1}
    assert sum(buffer.overflow.values()) == 2
    assert buffer.devices.keys() == {PATCH}
    record = buffer.devices[PATCH].record
    assert (record.patient, record.transport) == ("pt_testpatientaaaaaaa", "mqtt")
    assert buffer.waiting(PATCH) == 2
    assert buffer.quarantined == 4
    own = await buffer.submit(lambda draft: (draft.own_key(), draft.former(UNPAIRED)), now=True)
    assert own[0].endswith(".3"), "its own numbers go on"
    assert own[1].patient == "pt_testpatientaaaaaaa"
    await buffer.submit(lambda draft: draft.take_quarantined(entries[0][2]), now=True)
    await buffer.submit(lambda draft: draft.quarantine(entries[0][2]), now=True)
    assert (await buffer.look.quarantine_ids())[-1] == entries[0][0] + 1, "a number is never given twice"
    await buffer.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(OLD),)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "buffer.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(OLD[0].read_text())
    connection.close()
    broken = [*database.migrations(), (99, "CREATE TABLE new (x);\nSELECT no_such_function();\n")]
    monkeypatch.setattr(database, "migrations", lambda: broken)
    with pytest.raises(Exception, match="no_such_function"):
        await EventBuffer.open(path, KEK, gateway_id="gw-old")
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert "new" not in {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    monkeypatch.undo()
    await (await EventBuffer.open(path, KEK, gateway_id="gw-old")).close()

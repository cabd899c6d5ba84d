"""The comparison measures every system alike, sees what is lost, and does without what cannot be installed."""

import json
import math
import shutil
import sqlite3
import subprocess
import sys
from contextlib import nullcontext

import compared
import peers
import power_cut_loss
import pytest
import report
from rig import missing

METRICS = {"put", "in file", "drained", "cpu", "stored", "memory"}
STATES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("events")


@pytest.mark.parametrize("store", ["ours", "plain"])
def test_every_metric_of_a_backlog(folder, store):
    found = compared.speed(store, sys.executable, compared.events_file(folder, 3_000))
    assert set(found) == METRICS
    assert all(math.isfinite(value) and value > 0 for value in found.values()), found
    # An event has 394 octets in the mean; ours is compressed and sealed.
    assert found["stored"] < 250 if store == "ours" else found["stored"] > 394
    assert 5 < found["memory"] < 200


def test_the_device_is_looked_at_around_a_drained_run(folder, tmp_path, monkeypatch):
    samples = iter([(1_000, 0), (401_000, 0)])
    monkeypatch.setattr(compared.written, "volume", lambda: nullcontext((tmp_path, "loop")))
    monkeypatch.setattr(compared.written, "_sample", lambda mount, device: next(samples))
    assert compared.device("plain", sys.executable, compared.events_file(folder, 6_000), 50) == 200  # of 2,000 events
    with sqlite3.connect(tmp_path / "plain.db") as connection:
        rows = connection.execute("SELECT count(*), max(id) FROM event").fetchone()
    connection.close()
    assert rows == (2_000, 5_000)


@pytest.mark.parametrize(
    ("store", "loses"), [("ours", False), ("plain", False), ("plain:NORMAL", True), ("plain:OFF", True)]
)
def test_what_a_power_cut_takes(folder, store, loses):
    if power_cut_loss.possible():
        missing(power_cut_loss.possible())
    command = [sys.executable, str(compared.DRIVER), store]
    lost = power_cut_loss.losses(command, compared.events_file(folder, 2_000), STATES)
    assert len(lost) == STATES
    assert (max(lost) > 0) is loses, lost
    assert min(lost) >= 0


def test_events_that_are_missing_are_counted(folder, tmp_path):
    """The judge itself: a database without two of its rows."""
    bodies = compared.events_file(folder, 300).read_text().splitlines()
    with sqlite3.connect(tmp_path / "plain.db") as connection:
        connection.execute("CREATE TABLE event(id INTEGER PRIMARY KEY, body TEXT NOT NULL)")
        kept = [(body,) for number, body in enumerate(bodies, start=1) if number not in {7, 300}]
        connection.executemany("INSERT INTO event(body) VALUES (?)", kept)
    connection.close()
    assert set(range(1, 301)) - power_cut_loss.kept(tmp_path, "plain") == {7, 300}
    shutil.copy(__file__, tmp_path / "plain.db")
    assert power_cut_loss.kept(tmp_path, "plain") == set()


def test_without_the_peers(tmp_path, monkeypatch, capsys):
    def fail(*arguments):
        raise subprocess.CalledProcessError(1, arguments, stderr=b"WARNING: again\nERROR: no network\n")

    monkeypatch.setattr(peers, "HOME", tmp_path / ".venv" / "peers")
    monkeypatch.setattr(peers, "_run", fail)
    assert [system.store for system in peers.available()] == ["ours", "plain"]
    said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert len(said) == 3
    assert all("ERROR: no network" in line for line in said)


def test_a_number_for_programs_and_for_people():
    numbers = [
        report.Measured("buffer", "patch-gateway", "put", 200.0, "events/s"),
        report.Measured("buffer", "plain SQLite", "put", 50.0, "events/s"),
        report.Measured("burst", "patch-gateway", "cpu", 9.0, "us/event"),
    ]
    first = json.loads(next(report.objects(numbers)))
    assert first == {
        "bench": "buffer", "system": "patch-gateway", "metric": "put", "value": 200.0, "unit": "events/s",
    }  # fmt: skip
    lines = list(report.table(numbers))
    assert [line.split()[-1] for line in lines] == ["events/s", "x1.00", "x0.25", "us/event", "9.0"]

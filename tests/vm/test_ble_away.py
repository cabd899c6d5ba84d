"""A patch that is away: for six hours with everything going wrong on its return, and for a day."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from clinic import Clinic


@pytest.fixture
def clinic(vm, central):
    made = Clinic(vm, central)
    yield made
    made.close()


def test_six_hours_away_five_cuts_and_a_kill(clinic):
    patch = clinic.ward.add(1, passkey=123456)
    clinic.start()
    clinic.pair(patch)
    clinic.wait_complete(patch)
    clinic.ward.do(patch.vanish())
    patch.sensor.measure_until(30 + 360)
    sent = patch.faults.sent
    patch.faults.drop_link_at = [sent + 50 * cut for cut in range(1, 6)]
    patch.faults.slow = 0.02
    clinic.ward.do(patch.appear())
    clinic.wait_for(lambda: len(patch.faults.drop_link_at) <= 2, 90)
    time.sleep(1)
    clinic.vm.run("kill -9 $(systemctl show --property MainPID --value patch-gateway)").ok()
    clinic.wait_complete(patch, seconds=150)
    assert patch.faults.drop_link_at == []
    assert len(clinic.offsets(patch)) == 391
    assert clinic.audit("sequence_gap") == []
    assert clinic.status()["counters"]["durable"] < 391  # what was here before the kill is not fetched again
    assert clinic.vm.run("systemctl show --property NRestarts --value patch-gateway").ok().strip() == "1"


def test_a_day_out_of_range(clinic):
    """The gateway's clock goes on for a day; the patch keeps its records, and is fetched when it is back."""
    patch = clinic.ward.add(1, passkey=123456, minutes=0, interval=5)
    yesterday = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1, hours=1)
    patch.sensor.new_session(yesterday)
    patch.sensor.measure_until(60)
    clinic.vm.run(f"date -s @{time.time() - 86_400:.0f}").ok()
    clinic.start()
    clinic.pair(patch)
    clinic.wait_complete(patch)
    clinic.ward.do(patch.vanish())
    clinic.vm.run(f"date -s @{time.time():.0f}").ok()
    clinic.wait_for(lambda: "out of range" in clinic.radio(patch)["reason"], 60, lambda: clinic.radio(patch))
    shown = clinic.radio(patch)
    assert not shown["connected"]
    assert not shown["pair_again"]
    assert datetime.fromisoformat(shown["last_heard"]) < datetime.now(UTC) - timedelta(hours=23)
    patch.sensor.measure_until(60 + 1_440)
    clinic.ward.do(patch.appear())
    clinic.wait_complete(patch, seconds=120)
    assert len(clinic.offsets(patch)) == 301
    assert clinic.audit("sequence_gap") == []

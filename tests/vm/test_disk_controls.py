"""The buffer alone on bad disks, and wrong in one way: it must lose what the daemon keeps, or its tests see nothing."""

import asyncio

import pytest
from clinic import Clinic
from lines import PATIENCE
from medium import STATE, Medium, UnnoticedError
from vm import VM

from buffer.lanes import Lane
from buffer.store import EventBuffer

KEEPER = "/opt/patch-gateway/venv/bin/python /src/guest/keeper.py"
TRIES = 4
RESTARTED = "-p Restart=on-failure -p RestartSec=0.5"


def numbers(lines):
    """Up to which it was acknowledged, or found and taken for stored."""
    return [int(line.removeprefix("from ")) for line in lines.lines if line != "wal full"]


def starts(lines):
    return sum(line.startswith("from ") for line in lines.lines)


def wait_for_more(lines, count=500):
    """So many more are acknowledged."""
    wanted = numbers(lines)[-1] + count
    Clinic.wait_for(lambda: numbers(lines)[-1] >= wanted, 30, lambda: lines.lines[-5:])


def nothing(_vm, _medium, lines):
    """But the power cut."""
    wait_for_more(lines)


def writes_fail(_vm, medium, lines):
    """The process ends, the next one goes on."""
    medium.fail_commit("write", lambda: starts(lines) >= 2)
    wait_for_more(lines)


def a_flush_fails(_vm, medium, lines):
    """The process ends; the next one finds what may not be on the medium."""
    medium.fail_commit("flush", lambda: starts(lines) >= 2)


def becomes_read_only(vm, _medium, lines):
    vm.run(f"echo u > /proc/sysrq-trigger; until grep -q '{STATE} ext4 ro' /proc/mounts; do sleep .05; done").ok()
    wait_for_more(lines)


def becomes_full(vm, _medium, lines):
    """More than fits into the WAL as it is."""
    vm.run(f"cat /dev/zero > {STATE}/ballast")
    wait_for_more(lines, 3_000)


async def stored(database):
    """The numbers in a buffer."""
    buffer = await EventBuffer.open(database, bytes(32), gateway_id="gw-keeper")
    found = []
    while (claim := await buffer.claim(Lane.SENSOR, 1_000, 1 << 20)).events:
        found += [int(event.idempotency_key.rpartition(".")[2]) for event in claim.events]
    await buffer.close()
    return found


@pytest.mark.timeout(PATIENCE * TRIES * 150)
@pytest.mark.parametrize(
    ("fault", "mutant"),
    [
        (writes_fail, "no_fadvise"),
        (a_flush_fails, "no_flush"),
        (becomes_read_only, "no_statvfs"),
        (becomes_full, "full_is_fine"),
        (nothing, "normal"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_buffer_that_is_wrong_loses_what_it_acknowledged(request, rig, folder, fault, mutant):
    """Not each time: a fault that meets a page which is soon written again does no harm."""
    for number in range(TRIES):
        place = folder / str(number)
        place.mkdir()
        try:
            acknowledged, found = broken(request, rig, place, fault, mutant)
        except UnnoticedError as error:
            print(error)
            continue
        lost = acknowledged - set(found)
        print(f"lost {len(lost)} of {len(acknowledged)}")
        assert len(found) == len(set(found))
        if lost:
            assert min(lost) > 1, "what was acknowledged before the fault is there"
            return
    pytest.fail(f"it lost nothing in {TRIES} tries")


def broken(request, rig, folder, fault, mutant):
    """One fault and a power cut: (what was acknowledged, what is found)."""
    medium = Medium(folder)
    with VM(rig.image, rig.stage, rig.snapshot).start() as vm:
        request.node.machine = vm
        medium.plug_into(vm)
        lines = vm.spawn(f"{RESTARTED} {KEEPER} {mutant}")
        Clinic.wait_for(lambda: "wal full" in lines.lines, 60, lambda: lines.lines)
        fault(vm, medium, lines)
        medium.disk.cut()
        vm.power_cut()
        acknowledged = set(range(1, max(numbers(lines)) + 1))
    found = asyncio.run(stored(medium.read_after_cut("buffer.db", "buffer.db-wal")[0]))
    medium.disk.close()
    return acknowledged, found

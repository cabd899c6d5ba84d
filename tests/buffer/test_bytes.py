"""How many octets the buffer writes for each event, counted below libc: more than before is a regression.

What the file system adds is measured by `make bench`; here, the same workload gives the same number on every machine.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from power_cuts import build_shim
from recording import read
from rig import missing

ROOT = Path(__file__).parents[2]
EVENTS = 10_000


@pytest.mark.parametrize(("per_commit", "most"), [(50, 590), (1_000, 315)])
def test_octets_per_event(tmp_path, per_commit, most):
    if not shutil.which("cc"):
        missing("a C compiler is not here: install the Debian packages gcc and libc6-dev")
    state, log = tmp_path / "state", tmp_path / "log"
    state.mkdir()
    log.touch()
    marks = []
    command = [sys.executable, ROOT / "benchmarks/written_workload.py", state, *map(str, (per_commit, EVENTS, 5_000))]
    shim = {"LD_PRELOAD": str(build_shim(tmp_path)), "CRASH_DIR": str(state), "CRASH_LOG": str(log)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env={**os.environ, **shim}, cwd=ROOT, **pipes) as process:
        for expected in ("ready", "ran", "end"):
            assert process.stdout.readline() == f"{expected}\n"
            marks.append(log.stat().st_size)
            process.stdin.write("\n")
            process.stdin.flush()
        assert process.wait() == 0
    operations, _ = read(log.read_bytes()[marks[0] : marks[2]])
    written = sum(len(op.data) for op in operations if op.kind == "W") / EVENTS
    syncs = sum(op.kind == "S" for op in operations) / (EVENTS / per_commit)
    print(f"{written:.0f} octets per event, {syncs:.2f} syncs per commit")
    assert most * 0.7 < written <= most
    assert syncs < 1.3 if per_commit == 50 else syncs < 4

"""`make crash`: power cuts of the buffer, replayed from a recording of the product at work, and judged by the product.

Ends with one JSON object; exit code 1 unless nothing was lost, doubled or corrupt.
"""

import argparse
import asyncio
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from pathlib import Path

import mutants
from check import judge, known_at
from recording import MODES, Disk, read

from agent.buffer_cli import at_least_1

HERE = Path(__file__).parent
_ROUNDS = 220
_STATES_PER_RECORDING = 5_000
_SWAP_EVERY = 25


@contextmanager
def folder(within=Path("/dev/shm")):
    """In memory where there is such a file system: every state writes a database."""
    path = Path(tempfile.mkdtemp(prefix="crash-", dir=within if within.is_dir() else None))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def build_shim(into):
    """The shim, built by the C compiler that is here."""
    shim = into / "shim.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("a C compiler is needed for the shim: apt-get install gcc libc6-dev")
    subprocess.run([compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", shim, HERE / "shim.c"], check=True)
    return shim


def record(into, seed, kek, mutant=None):
    """The recording of one run of the workload."""
    state, log = into / "state", into / "log"
    shutil.rmtree(state, ignore_errors=True)
    log.unlink(missing_ok=True)
    state.mkdir()
    log.touch()
    command = [sys.executable, HERE / "workload.py", state / "buffer.db", kek.hex(), str(seed), str(_ROUNDS)]
    environment = {**os.environ, "LD_PRELOAD": str(build_shim(into)), "CRASH_DIR": str(state), "CRASH_LOG": str(log)}
    subprocess.run([*command, *([mutant] if mutant else [])], check=True, env=environment, timeout=100)
    return read(log.read_bytes())


def cuts(recording, states, seed):
    """(after how many operations, mode, seed) of each power cut, in the order of the operations."""
    operations, said = recording
    start = next(item.after for item in said if "ready" in item.what)
    rng = random.Random(seed)
    chosen = (
        (rng.randrange(start, len(operations) + 1), rng.choice(MODES), rng.getrandbits(32)) for _ in range(states)
    )
    return start, sorted(chosen)


def judge_cuts(recording, start, chosen, kek, mutant, within):
    """(how many were judged, [(cut, verdict)] of those with something wrong). A mutant stops at its first one."""
    operations, said = recording
    if mutant == "unbound":
        mutants.unbind()
    disk, wrong = Disk(operations), []
    disk.advance(start)
    disk.settle()
    with folder(within) as place:
        for number, (at, mode, seed) in enumerate(chosen, start=1):
            disk.advance(at)
            for path in place.iterdir():
                path.unlink()
            for name, content in disk.after_the_cut(mode, random.Random(seed)).items():
                (place / name).write_bytes(content)
            known = known_at(said, at)
            verdict = asyncio.run(judge(place, kek, known, swap=number % _SWAP_EVERY == 0))
            if verdict:
                wrong.append(((at, mode, seed), verdict))
                if mutant:
                    return number, wrong
    return len(chosen), wrong


@contextmanager
def workers_that_end(number):
    """A pool of processes that Ctrl-C ends, whatever they are at."""
    ignore = (signal.SIGINT, signal.SIG_IGN)
    pool = ProcessPoolExecutor(number, get_context("fork"), initializer=signal.signal, initargs=ignore)
    try:
        yield pool
    except BaseException:
        for process in active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def run(states, seed, mutant=None, *, progress=lambda _: None):
    """The numbers, and what is wrong."""
    total, problems = {"states": 0, "acknowledged": 0}, []
    workers = 1 if mutant else 2 * (os.cpu_count() or 1)  # they wait for threads of SQLite
    with folder() as place, workers_that_end(workers) as pool:
        while total["states"] < states and not (mutant and problems):
            kek = secrets.token_bytes(32)
            recording = record(place, seed, kek, mutant)
            start, chosen = cuts(recording, min(states - total["states"], _STATES_PER_RECORDING), seed)
            total["acknowledged"] += len(known_at(recording[1], len(recording[0])).acked)
            # Every job replays the recording for itself, so that it gets a stretch of it; late ones take longer.
            size = len(chosen) if mutant else -(-len(chosen) // (8 * workers))
            futures = [
                pool.submit(judge_cuts, recording, start, chosen[first : first + size], kek, mutant, place)
                for first in range(0, len(chosen), size)
            ]
            for judged, wrong in (future.result() for future in futures):
                total["states"] += judged
                problems += [(seed, cut, verdict) for cut, verdict in wrong]
            progress(total["states"])
            seed += 1
    counts = {kind: sum(len(getattr(v, kind)) for _, _, v in problems) for kind in ("lost", "doubled", "corrupt")}
    return total | counts, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", type=at_least_1, default=2_000, metavar="N")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("TEST_SEED", "1")))
    parser.add_argument("--mutant", choices=mutants.MUTANTS, help="break it on purpose, stop where it shows")
    parser.add_argument("--json", action="store_true", help="nothing but the object")
    arguments = parser.parse_args()
    show = (lambda done: None) if arguments.json else (lambda done: print(f"{done} states", file=sys.stderr))
    try:
        total, problems = run(arguments.states, arguments.seed, arguments.mutant, progress=show)
    except KeyboardInterrupt:
        return 130
    for seed, (at, mode, cut_seed), verdict in problems[: 0 if arguments.json else 10]:
        print(f"seed {seed}, cut after operation {at} ({mode}, {cut_seed}): {verdict}", file=sys.stderr)
    print(json.dumps(total))
    return int(any(total[kind] for kind in ("lost", "doubled", "corrupt")))


if __name__ == "__main__":
    raise SystemExit(main())

"""`make fuzz SECONDS=N`: every target for so long, one per CPU at a time. Exit code 1: one of them crashed, hung or
took too much memory; the input that did it is in `.fuzz/TARGET`, and belongs into tests/fuzz/corpus once it is mended.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from targets import TARGETS

HERE = Path(__file__).parent
FOUND = HERE.parents[1] / ".fuzz"
_LIMITS = ["-timeout=10", "-rss_limit_mb=1024", "-max_len=8192", "-print_final_stats=1"]


def environment(target):
    """For the script: its target, and this interpreter, since libFuzzer starts it again by name."""
    return {**os.environ, "FUZZ_TARGET": target, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def fuzz(target, seconds, seed):
    """Whether it held, and how many inputs it was given."""
    folder = FOUND / target
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        HERE / "one.py", *_LIMITS, f"-max_total_time={seconds}", f"-seed={seed}",
        f"-artifact_prefix={folder}/", folder, HERE / "corpus" / target,
    ]  # fmt: skip
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, errors="replace", env=environment(target)
    )
    executed = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    if done.returncode:
        (folder / "report.txt").write_text(done.stdout + done.stderr)
        print(f"{target}: FAILED\n{done.stdout[-3_000:]}{done.stderr[-1_000:]}", flush=True)
    else:
        print(f"{target:12} {executed[1] if executed else '?':>9} inputs", flush=True)
    return done.returncode == 0, int(executed[1]) if executed else 0


def merge(target):
    """What of `.fuzz` reaches code that the corpus does not, into the corpus."""
    folders = [HERE / "corpus" / target, FOUND / target]
    for path in FOUND.glob(f"{target}/report.txt"):
        path.unlink()
    command = [HERE / "one.py", "-merge=1", "-max_len=8192", *folders]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=environment(target))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=int, help="for each target")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("TEST_SEED", "1")))
    parser.add_argument("--merge", action="store_true", help="keep what reaches new code in tests/fuzz/corpus")
    arguments = parser.parse_args()
    if find_spec("atheris") is None:
        print("atheris has wheels for x86_64 and Python up to 3.13 only: make fuzz runs there", file=sys.stderr)
        return 1
    chosen = arguments.target or list(TARGETS)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda target: fuzz(target, arguments.seconds, arguments.seed), chosen))
    if arguments.merge:
        for target in chosen:
            merge(target)
    elif all(held for held, _ in results):
        shutil.rmtree(FOUND)
    print(f"{len(chosen)} targets, {sum(executed for _, executed in results)} inputs, seed {arguments.seed}")
    return 0 if all(held for held, _ in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())

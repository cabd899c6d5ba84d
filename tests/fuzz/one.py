"""One target under atheris: `one.py TARGET [libFuzzer's options] CORPUS...`."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["device_drivers", "schemas", "agent.replay", "agent.expected"]):
    sys.path.insert(0, str(Path(__file__).parent))
    import targets

target = sys.argv.pop(1)
atheris.Setup(sys.argv, targets.TARGETS[target])
atheris.Fuzz()

#!/usr/bin/env python3
"""The target of FUZZ_TARGET under atheris: `one.py [options of libFuzzer] CORPUS...`. A merge starts it again."""

import os
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["device_drivers", "schemas", "agent.replay", "agent.expected"]):
    sys.path.insert(0, str(Path(__file__).parent))
    import targets

atheris.Setup(sys.argv, targets.TARGETS[os.environ["FUZZ_TARGET"]])
atheris.Fuzz()

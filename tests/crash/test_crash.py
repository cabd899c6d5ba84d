"""Whatever a power cut leaves, the buffer holds what was acknowledged, once; and a buffer that is wrong is caught."""

import os
import shutil

import power_cuts
import pytest
from mutants import MUTANTS
from rig import missing

SEED = int(os.environ.get("TEST_SEED", "1"))


@pytest.fixture(autouse=True)
def compiler():
    if not shutil.which("cc"):
        missing("a C compiler is not here: install the Debian packages gcc and libc6-dev")


def test_power_cuts():
    total, problems = power_cuts.run(2_000, SEED)
    assert problems == []
    assert total["states"] == 2_000
    assert total["acknowledged"] > 1_000


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_caught(mutant):
    total, problems = power_cuts.run(2_000, SEED, mutant)
    assert problems, total

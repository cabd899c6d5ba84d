"""Make the compression dictionary that the buffer ships: `python benchmarks/train_dictionary.py FILE`.

Synthetic events of 500 patches, seed and patches of its own, so that no measured or real identity is in it.
A new dictionary gets a new number; old ones stay as long as a buffer in the field may hold rows that need them.
"""

import sys
from itertools import islice
from pathlib import Path

import zstandard

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import wire_events

from buffer.sealing import pack

SEED, DEVICES, SAMPLES, SIZE = 20_260_101, 500, 8_000, 16_384


def train() -> bytes:
    """The dictionary's octets; the same on every machine with the same zstd."""
    samples = [pack(event) for event in islice(wire_events(SEED, DEVICES), SAMPLES)]
    return zstandard.train_dictionary(SIZE, samples, dict_id=1).as_bytes()


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(train())

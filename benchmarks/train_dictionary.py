"""Make the compression dictionary that the buffer ships: `python benchmarks/train_dictionary.py FILE`.

Synthetic events of 500 patches, seed and patches of its own, folded as the buffer folds them, so that no measured or
real identity is in it. A new dictionary gets a new number; old ones stay as long as a buffer in the field may hold rows
that need them.
"""

import json
import sys
from itertools import islice
from pathlib import Path

import zstandard

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import wire_events

from buffer.folding import fold
from buffer.sealing import CURRENT_DICTIONARY
from schemas.wire import WireEvent

SEED, DEVICES, SAMPLES, SIZE = 20_260_101, 500, 8_000, 8_192


def folded(event: WireEvent) -> bytes:
    """With the words that its data key would have."""
    body = json.loads(event.body)
    words = (body["producer"], body["occurred_at"][:11], body["data"]["device_id"], body["user_id"], body["session_id"])
    return fold(event, [word.encode() for word in words])


def train() -> bytes:
    """The dictionary's octets; the same on every machine with the same zstd."""
    samples = [folded(event) for event in islice(wire_events(SEED, DEVICES), SAMPLES)]
    return zstandard.train_dictionary(SIZE, samples, dict_id=CURRENT_DICTIONARY).as_bytes()


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(train())

"""Write tests/golden anew: `python tests/support/regolden.py`. Read the diff before committing it."""

import json
from pathlib import Path

from samples import PAYLOADS, envelope

from schemas.envelope import ENVELOPE
from schemas.wire import to_wire

if __name__ == "__main__":
    for event_type in PAYLOADS:
        wire = to_wire(ENVELOPE.validate_json(json.dumps(envelope(event_type))))
        (Path(__file__).parents[1] / "golden" / f"{event_type}.json").write_bytes(wire.body + b"\n")

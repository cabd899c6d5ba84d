"""How a process ends when the medium under the buffer fails."""

import os
import sys
from typing import NoReturn

from buffer.errors import MediumError

EX_IOERR = 74


def end_at_once(error: MediumError) -> NoReturn:
    """Say why, and close nothing: closing a database writes, and what the kernel holds is not believed any more."""
    print(f"patch-gateway: {error}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(EX_IOERR)

"""`python -m central`, the same as `patch-central`."""

import sys

from central.cli import main

sys.exit(main())

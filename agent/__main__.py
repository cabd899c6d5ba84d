"""`python -m agent` from a checkout that was never installed."""

import sys

from agent.cli import main

sys.exit(main())

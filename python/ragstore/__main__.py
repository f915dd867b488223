"""``python -m ragstore``: the command `ragstore`."""

import sys

from .cli import main

sys.exit(main())

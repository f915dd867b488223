"""What of this process is in memory, and what of that is only mapped from files."""

from __future__ import annotations

import gc
import re
from pathlib import Path

SMAPS = Path("/proc/self/smaps_rollup")


def resident() -> dict[str, int]:
    """Bytes in memory, and those of them that the process holds itself: anonymous pages, which no file backs.

    The rest are pages of mapped files, which processes share and the kernel may drop at any time. Nothing where the
    system does not say.
    """
    gc.collect()
    if not SMAPS.exists():
        return {}
    sizes = {key: int(kib) << 10 for key, kib in re.findall(r"^(\w+):\s+(\d+) kB$", SMAPS.read_text(), re.MULTILINE)}
    return {"resident": sizes["Rss"], "held": sizes["Anonymous"]}

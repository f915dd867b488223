from __future__ import annotations

from benchmarks.compare.systems.ragstore import Ragstore


class RagstoreOff(Ragstore):
    title = "ragstore, SQLite alone"
    about = '`derived="off"`'
    settings = ({},)
    derived = "off"

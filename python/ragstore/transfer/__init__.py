"""A store as plain files, and back: JSON Lines and NumPy arrays in a folder, or one SQLite file without virtual tables.

`docs/guides/command-line.md` describes both formats.
"""

from .export import ExportResult, export
from .import_ import ImportResult, import_

__all__ = ["ExportResult", "ImportResult", "export", "import_"]

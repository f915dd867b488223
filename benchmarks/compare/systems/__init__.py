"""One file per system, under the name of its package."""

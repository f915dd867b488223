"""ragstore beside other systems, all on the same data in one run: `make compare`."""

"""One module per group of rows: each measures on a `Run` and gives back a `Result`."""

"""The benchmark: its arguments, its reports, its comparisons, and one small run."""

"""Benchmarks. Figures come from here and never from a timed test; compare ratios within one run."""

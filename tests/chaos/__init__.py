"""Chaos itself: its checker, what it keeps of a run, and a short run on each store."""

"""The rules of the checker, one subject in each file. Each takes the evidence and yields violations."""

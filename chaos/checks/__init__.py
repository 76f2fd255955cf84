"""The rules of the checker, one subject a file. Each takes the evidence and gives violations."""

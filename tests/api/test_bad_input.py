"""Bad input gets a clear error that says what, where and what to do, and nothing is half-written. (Being written by another helper: leave alone.)"""

"""Chaos tests: real processes run workflows while everything around them fails; then every promise is checked.

make chaos MINUTES=20 SEED=7

conductor     starts the processes and injects faults, as the seed says (`faults`, `processes`, `databases`)
load          what the processes do: run workflows, and send to and read from them (`program`, `rounds`, `visits`)
histories     what each process did and saw, in its own journal; and what the database holds at the end
checker       shows from the histories whether every promise was kept; pure, and tested in tests/chaos
"""

"""Real chaos: processes that talk through workflows while everything around them fails, and the proof that all held.

make chaos MINUTES=20 SEED=7

conductor     starts the processes and lets things fail, as the seed says (`faults`, `processes`, `databases`)
load          what the processes do: workflows, and who talks with them (`load`, `worker`, `client`)
histories     what each of them did and saw, in a journal of its own; and what the database holds at the end
checker       proves from the histories that every promise was kept; pure, and tested in tests/chaos
"""

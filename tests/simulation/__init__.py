"""The engine simulated: several executors in one process, on virtual time and a faulty store, all from one seed.

    scheduler, carriers     who runs, and what time it is
    primitives, loops       threads, locks and event loops on the scheduler
    stage                   puts all that into the engine's modules for the length of a simulation
    server, store           the database, and the way to it, with faults
    processes, nemesis      programs that run workflows, and what happens to them
    plots, programs         what workflows and clients do
    ledger, verdict         what was seen, and whether it may be so
    simulation              one seed, from its beginning to its end

`python -m tests.simulation --seed 1234` plays one seed and prints what happened; `--seeds 10000` plays many.
"""

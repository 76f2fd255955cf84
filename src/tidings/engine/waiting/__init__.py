"""Waiting and waking: tickets, arrivals, waiters, timers, and the clock that they use."""

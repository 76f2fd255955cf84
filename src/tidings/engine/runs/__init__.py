"""One execution of a workflow: its runner, its drivers, and its turns, event loops and threads."""

"""The threads that talk to the store (committer, reader, lanes, listener), and how they survive its outages."""

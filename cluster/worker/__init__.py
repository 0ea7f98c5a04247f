"""A worker: the supervisor, which speaks to the master and runs no user code, and its slots, which do."""

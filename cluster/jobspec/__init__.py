"""A job as it travels: packed and signed by a client, opened in a task process after its signature was checked."""

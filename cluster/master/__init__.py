"""The master: pure machines that decide about jobs, sessions and commits, and the shells around them."""

"""Plans, input and output, shuffle, scheduling and the local runner; opens no socket."""

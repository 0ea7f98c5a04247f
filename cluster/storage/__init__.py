"""The storage process: a child of the master that publishes outputs; the only one of the two that touches files."""

"""Programs that do the same job in another engine; each is run as a process of its own."""

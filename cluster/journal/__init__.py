"""The master's journal: facts that must outlive it, in order, each checked when they are read back."""

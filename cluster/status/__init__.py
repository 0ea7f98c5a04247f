"""The master's status page: a page for a browser of this machine, read-only, behind a token."""

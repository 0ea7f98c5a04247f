"""The client of a cluster: packs jobs, submits them, watches them, and hands their results on."""

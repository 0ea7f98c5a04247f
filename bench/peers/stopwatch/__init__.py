"""A folder for PYTHONPATH: its sitecustomize times some calls in every process that is started with it."""

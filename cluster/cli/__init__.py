"""The cluster's commands. `engine/cli/group.py` names them in its table and imports them when they are called."""

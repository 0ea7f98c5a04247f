"""The bodies of the commands. `kernelmill.__main__` holds the group and loads a module when its command is called."""

"""The bodies of the commands. `group` holds them together and loads a module when its command is called."""

"""The data plane: blocks of map attempts in files, served to readers on other hosts, and parts of jobs."""

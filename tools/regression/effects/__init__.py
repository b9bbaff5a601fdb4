"""Effects on the machine: processes, files, environments."""

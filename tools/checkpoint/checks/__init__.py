"""Read a checkpoint that ModelOpt exported, and hold it against what the servers expect of it."""

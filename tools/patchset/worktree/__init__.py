"""Effects on `extern/`: the lock, the journal, the switch from one tree to another."""

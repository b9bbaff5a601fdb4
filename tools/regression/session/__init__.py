"""The steps of a scenario: each is a process in an upstream's environment, and is kept when it has ended."""

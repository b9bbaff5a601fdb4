"""The work of the commands on sources, engine and work tree, one module a command."""

"""What the commands do: sources, engine and work tree put together, one module a command."""

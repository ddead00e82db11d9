"""Pure: what the agent decides. No processes, sockets, files or clock."""

"""The agent's decisions. Pure: no processes, sockets, files or clock."""

"""The agent's shell: processes, sockets, files and the clock around its core."""

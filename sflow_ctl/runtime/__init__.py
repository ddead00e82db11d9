"""The controller's shell: sockets, processes, files and the clock around the core."""

"""The viewer's side of a run: over the socket, or from its files."""

"""The journal of a run: its lines, the segments they are in, the one writer, and the one way to read it."""

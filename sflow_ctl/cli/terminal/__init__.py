"""Output on a terminal: the console, state lines, progress."""

"""What a terminal shows: the console, state lines, progress."""

"""One run: its directory, journal and controller loop, from options to summary."""

"""The scheduler. Pure: events in, commands out, no clock and no I/O."""

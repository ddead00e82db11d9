"""Pure: the scheduler. Events in, commands out, no clock and no I/O."""

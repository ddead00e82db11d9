"""Rules as pure functions: the meaning of an exit, the next attempt, the next step."""

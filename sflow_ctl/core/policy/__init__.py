"""Rules as pure functions: what an exit means, what follows it, which step comes next."""

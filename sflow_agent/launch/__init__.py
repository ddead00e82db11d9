"""What is started for a rank: its program, directly where bash would only replace itself by it, and what it inherits."""

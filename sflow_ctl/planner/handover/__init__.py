"""Plans what attempts and tasks get from those before them: checkpoints."""

"""Files and values that tasks hand to each other: found when a task has ended, checked before another one starts."""

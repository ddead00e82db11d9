"""Files and values that tasks hand to each other, with real agents."""

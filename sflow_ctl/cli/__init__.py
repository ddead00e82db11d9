"""What a person types and sees. Commands call the runtime, print errors, and choose the exit status."""

"""Other plans for a live run: made by the command that applies one, kept in the run directory, put in force by the controller."""

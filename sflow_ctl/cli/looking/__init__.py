"""Commands that look at runs, and delete those that have ended. None of them changes a live one."""

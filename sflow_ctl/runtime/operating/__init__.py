"""Requests of operators: their way from the command to the scheduler, and the way of the answers back."""

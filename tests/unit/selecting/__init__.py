"""Which tasks a query or a rerun means."""

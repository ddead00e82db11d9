"""The supervisor, which the user knows as `sflow-ctl run`, and what a controller hands to the next one through it."""

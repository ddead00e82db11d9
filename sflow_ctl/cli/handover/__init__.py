"""Commands about what tasks have handed over: `outputs` and `collect`."""

"""Pure: from a checked document to a plan. Who runs where, with which GPUs, argv, environment and probes."""

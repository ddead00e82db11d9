"""The link between controller and agent: packets, exactly-once delivery, keys and versions."""

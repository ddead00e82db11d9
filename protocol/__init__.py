"""What controller and agent share: messages, codec, channel, keys, errors. Imports nothing of ours, does no I/O."""

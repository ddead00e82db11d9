"""What controller and agent share: messages, codec, channel, ids, errors. Imports nothing of ours, no I/O."""

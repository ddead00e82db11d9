"""The common part of controller and agent: messages, codec, channel, ids, errors.

Imports nothing of ours. Does no I/O but in `machine`.
"""

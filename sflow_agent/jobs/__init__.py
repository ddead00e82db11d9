"""The watcher of a task whose work is done elsewhere: it submits, looks, follows the log, and cancels."""

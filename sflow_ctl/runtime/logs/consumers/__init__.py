"""The consumers of logs: the console, merged files of gangs, viewers, and searches for patterns."""

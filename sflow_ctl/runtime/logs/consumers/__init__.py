"""Who gets the bytes of logs: the console, merged files of gangs, viewers, and searches for patterns."""

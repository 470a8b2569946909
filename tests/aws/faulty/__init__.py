"""Faults in every call of every command that changes something, each followed by the same command again."""

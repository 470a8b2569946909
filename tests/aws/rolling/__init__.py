"""Rollouts to a group, and what status says of it."""

"""Lets work end before this instance or its server does."""

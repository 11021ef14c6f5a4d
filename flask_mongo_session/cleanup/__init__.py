"""Removes expired sessions in the background."""

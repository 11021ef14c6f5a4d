"""Optional parts, imported by name; they use the public API only."""

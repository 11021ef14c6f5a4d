"""The session of one request: its values, its state, and what it owes the database at the end."""

"""Commands on stored sessions: one record, one user's sessions, indexes."""

"""Commands, checks and figures for the people who run the application."""

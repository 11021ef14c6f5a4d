"""Between Flask and the session: cookies, responses and views."""

"""The way to MongoDB: clients, time limits, retries, the circuit breaker and the database's clock."""

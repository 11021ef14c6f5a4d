"""What sessions cost, measured against raw PyMongo and against the alternatives: ``python -m benchmarks``."""

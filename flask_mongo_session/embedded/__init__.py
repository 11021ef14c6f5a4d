"""A real ``mongod`` on a developer's machine."""

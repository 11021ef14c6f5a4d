"""The record and its declaration: fields, values, changes and the queries that find sessions."""

"""Generators of the reference tables and the JSON Schemas."""

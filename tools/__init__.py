"""Generators: the tables of the documents and the JSON Schemas, made from the code."""

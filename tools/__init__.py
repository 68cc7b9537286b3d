"""Generators of the reference tables, the JSON Schemas and the alerts for Kubernetes."""

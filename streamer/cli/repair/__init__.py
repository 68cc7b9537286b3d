"""What `outcomes`, `trace`, `dlq` and `retry` are made of: reading topics, and writing again."""

"""Parts of `outcomes`, `trace`, `dlq` and `retry`: reading topics and writing records again."""

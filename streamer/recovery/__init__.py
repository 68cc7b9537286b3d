"""What became of recipients and dead letters, from the topics; and writing records again."""

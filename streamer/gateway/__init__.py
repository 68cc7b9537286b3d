"""What faces the internet: Resend's webhooks and unsubscribing, written to the topic of events."""

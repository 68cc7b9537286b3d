"""From the topic of events to suppression, counts and pauses."""

"""Progress: per-campaign counts, projected from the topics.

`arrivals` reads Kafka, `fold` turns records into increments, `projection` adds them in Redis
exactly once, `judge` decides when a campaign is complete, and `projector` runs them all. `counts`
and `report` describe a campaign's progress.
"""

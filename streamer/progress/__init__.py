"""Progress: the topics folded into counts for each campaign.

`fold` turns records into what they add, `projection` adds it in Redis once and only once,
`arrivals` reads Kafka, `judge` says when a campaign is complete, and `projector`
runs them. `counts` and `report` are what is known of a campaign.
"""

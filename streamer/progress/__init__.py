"""Progress: per-campaign counts, added up from what the workers' transactions wrote.

`topic_reader` reads the progress topic, `fold` adds its records up, `projection` adds the sums to
the counts in Redis exactly once, `completion` decides when a campaign is complete, and `projector`
runs them all. `counts` and `report` describe a campaign's progress.
"""

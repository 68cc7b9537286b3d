"""Kafka, by confluent's client: the only place with rules about it.

- `properties`: of each kind of client; the operator's own come last
- `transactions`: `TransactionalProducer`, what becomes of a transaction, and what follows
- `writing`: `TransactionalWriter`, input records of a command that goes on where another one was
killed - `reading`: `PartitionReader`, `Reader`, committed records without a group
- `offsets`: beginnings, ends, what groups have committed, and their lag
- `metadata`: partitions, ids and configurations of topics
- `headers`: those of a message
- `trouble`: why a client cannot reach Kafka
"""

"""Kafka access on top of the confluent client; all Kafka-specific rules live here.

- `properties`: client properties, overridden by the operator's own
- `transactions`: `TransactionalProducer` and how to handle a failed transaction
- `writing`: `TransactionalWriter`, restartable writes of input records
- `reading`: `PartitionReader` and `Reader`, committed records without a consumer group
- `shared`: `SharedConsumer`, one client for several readers
- `on_demand`: clients that are there while they are used
- `offsets`: first, end and committed offsets, and group lag
- `metadata`: partitions, ids and configurations of topics
- `headers`: message headers
- `error_log`: why a client cannot reach Kafka
"""

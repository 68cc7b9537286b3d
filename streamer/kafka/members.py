"""The members of consumer groups."""

from confluent_kafka.admin import AdminClient

from streamer.kafka.answers import answer_of

_REQUEST_S = 10.0


def members_of(admin: AdminClient, group: str) -> list[str]:
    """Return the client ids of a group's members; a killed one is a member until its session ends.

    Raises:
        KafkaException: Kafka cannot be used.
    """
    (found,) = admin.describe_consumer_groups([group], request_timeout=_REQUEST_S).values()
    return sorted(str(member.client_id) for member in answer_of(found).members)

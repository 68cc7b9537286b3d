"""A Kafka in memory, and the client library's classes on it, for tests of one thread.

`FakeKafka` is the cluster. Its methods `producer`, `consumer` and `admin` take the place of the
client library's `Producer`, `Consumer` and `AdminClient`; `FakeKafka.install` puts them into
modules. No call blocks: where the client library waits, the cluster's clock is advanced.

What these classes do is what librdkafka and brokers do, as far as streamer relies on it:
`tests/contracts` runs the same tests over both.
"""

from tests.kit.fakes.kafka.clock import KafkaClock as KafkaClock
from tests.kit.fakes.kafka.cluster import FakeKafka as FakeKafka
from tests.kit.fakes.kafka.cluster import KafkaApi as KafkaApi
from tests.kit.fakes.kafka.cluster import Silence as Silence

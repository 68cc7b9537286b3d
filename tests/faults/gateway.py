"""A gateway with injectable Kafka faults: `python -m tests.faults.gateway PORT`.

PORT is that of a `KafkaReferee`.
"""

import sys

from streamer.gateway.server import serve
from streamer.settings import load
from tests.faults.worker import die_with_parent
from tests.kit import kafka_faults


def main() -> int:
    """Run the gateway; it is killed when its parent process ends."""
    die_with_parent()
    kafka_faults.put_into_modules(int(sys.argv[1]))

    def announce(url: str) -> None:
        print(url, flush=True)

    return 0 if serve(load(), "127.0.0.1", 0, "127.0.0.1", announce) else 1


if __name__ == "__main__":
    sys.exit(main())

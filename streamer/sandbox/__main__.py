"""The child of `SandboxProcess`: its configuration is the first line on stdin.

It writes its URL to stdout and ends when stdin is closed, so it never outlives its parent.
"""

import sys

from streamer.sandbox.config import Config
from streamer.sandbox.server import serve


def main() -> None:
    """Serve as the first line on stdin says."""
    # Unbuffered: what follows the line belongs to the lifeline.
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        config = Config.model_validate_json(stdin.readline())

    def announce(url: str) -> None:
        sys.stdout.write(url + "\n")
        sys.stdout.flush()

    serve(config, announce, lifeline=0)


if __name__ == "__main__":
    main()

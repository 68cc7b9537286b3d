"""The child process of `SandboxProcess`.

Reads its configuration from the first line of stdin, writes its URL to stdout, and ends when
stdin is closed, so it never outlives its parent.
"""

import sys

from streamer.sandbox.config import Config
from streamer.sandbox.server import serve


def main() -> None:
    """Run the server with the configuration from stdin."""
    # Unbuffered: whatever follows the first line must be left to the lifeline.
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        config = Config.model_validate_json(stdin.readline())

    def announce(url: str) -> None:
        sys.stdout.write(url + "\n")
        sys.stdout.flush()

    serve(config, announce, lifeline=0)


if __name__ == "__main__":
    main()

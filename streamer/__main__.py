"""The entry point of `streamer` and of `python -m streamer`."""

from streamer.startup import quiet_imports


def main() -> None:
    """Run the command line interface."""
    with quiet_imports():
        from streamer.cli import main as run

    run()


if __name__ == "__main__":
    main()

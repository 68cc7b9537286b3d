"""The version of the installed package."""

from importlib import metadata


def version() -> str:
    """Return the version; "unknown" where the package is not installed."""
    try:
        return metadata.version("streamer")
    except metadata.PackageNotFoundError:
        return "unknown"

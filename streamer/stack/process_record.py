"""A file in a server's folder by which other processes find the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from streamer.stack.errors import StackError

if TYPE_CHECKING:
    import psutil


class ProcessRecord(BaseModel):
    """A server that was started and may still be running."""

    model_config = ConfigDict(frozen=True)

    pid: int
    port: int
    version: str

    def write(self, folder: Path) -> None:
        """Write the record to the server's folder."""
        draft = _file(folder).with_suffix(".new")
        draft.write_text(self.model_dump_json())
        draft.replace(_file(folder))

    @classmethod
    def read(cls, folder: Path) -> ProcessRecord | None:
        """Read the record; None if it is missing or unreadable."""
        try:
            return cls.model_validate_json(_file(folder).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def process(self, folder: Path) -> psutil.Process | None:
        """Return the process if it is still running and is the folder's server.

        The pid may have been reused, so check the working directory, which only the server has.
        The start time would not do, since it shifts with the system clock.

        Raises:
            StackError: psutil is not installed.
        """
        try:
            import psutil
        except ImportError:
            raise StackError("cannot look up servers: pip install 'streamer[stack]'") from None
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE or Path(process.cwd()) != folder.resolve():
                return None
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return None  # ended, or owned by another user
        return process


def forget(folder: Path) -> None:
    """Remove the record from the folder."""
    _file(folder).unlink(missing_ok=True)


def _file(folder: Path) -> Path:
    return folder / "process.json"

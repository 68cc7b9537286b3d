"""Who serves a folder: what one process writes down, for others to find."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from streamer.stack.errors import StackError

if TYPE_CHECKING:
    import psutil


class Record(BaseModel):
    """A server that was started, and perhaps still runs."""

    model_config = ConfigDict(frozen=True)

    pid: int
    port: int
    version: str

    def write(self, folder: Path) -> None:
        """Leave it in the server's folder."""
        draft = _file(folder).with_suffix(".new")
        draft.write_text(self.model_dump_json())
        draft.replace(_file(folder))

    @classmethod
    def read(cls, folder: Path) -> Record | None:
        """What was left there; None if nothing, or nothing that can be read."""
        try:
            return cls.model_validate_json(_file(folder).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def process(self, folder: Path) -> psutil.Process | None:
        """The process, if it still runs and is that folder's server.

        Its number may have been given to another since. A server runs in its folder, which
        nothing else does; the time of its start is no such mark, as it moves with the clock.

        Raises:
            StackError: the package to find out with is missing.
        """
        try:
            import psutil
        except ImportError:
            raise StackError("servers cannot be looked up: pip install 'streamer[stack]'") from None
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE or Path(process.cwd()) != folder.resolve():
                return None
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return None  # gone, or somebody else's
        return process


def forget(folder: Path) -> None:
    """Remove what was left there."""
    _file(folder).unlink(missing_ok=True)


def _file(folder: Path) -> Path:
    return folder / "process.json"

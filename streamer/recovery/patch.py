"""JSON merge patches (RFC 7396) for fixing the values of dead letters."""

import json
from pathlib import Path

from pydantic import JsonValue

from streamer.errors import InvalidDataError

Patch = dict[str, JsonValue]


class InvalidPatchError(InvalidDataError):
    """The text is not a valid patch; the message says why."""


class UnpatchableError(InvalidDataError):
    """The value is not JSON, so it cannot be patched."""


def merge(target: JsonValue, patch: JsonValue) -> JsonValue:
    """Return `target` with the patch applied: replaces members, removes those set to null."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def apply(patch: Patch, value: bytes | None) -> bytes:
    """Return a record's value with the patch applied.

    Raises:
        UnpatchableError: the value is not JSON in UTF-8.
    """
    try:
        # Unlike orjson, the standard library preserves integers of any length.
        target = json.loads((value or b"").decode())
        # It also accepts NaN and Infinity, which are not JSON, so reject them here.
        return json.dumps(merge(target, patch), separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError) as error:  # ValueError: from decoding and from parsing
        raise UnpatchableError(str(error)) from None


def read_patch(text: str) -> Patch:
    """Parse a patch, given as JSON or as the name of a file with it.

    Raises:
        InvalidPatchError: the patch is not a JSON object, or the file cannot be read.
    """
    try:
        if not text.lstrip().startswith("{"):
            text = Path(text).read_text(encoding="utf-8")
        patch = json.loads(text)
    except OSError as error:
        raise InvalidPatchError(f"{text}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidPatchError(f"invalid JSON: {error}") from None
    if not isinstance(patch, dict):
        raise InvalidPatchError("a patch must be a JSON object: others would replace whole values")
    return patch

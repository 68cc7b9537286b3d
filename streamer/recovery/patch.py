"""JSON merge patches, RFC 7396: how dead letters' values are mended."""

import json
from pathlib import Path

from pydantic import JsonValue

from streamer.errors import InvalidDataError

Patch = dict[str, JsonValue]


class BadPatchError(InvalidDataError):
    """The text is no patch; the message says why."""


class UnpatchableError(InvalidDataError):
    """The value is no JSON, so there is nothing to patch."""


def merge(target: JsonValue, patch: JsonValue) -> JsonValue:
    """What `target` becomes by the patch: members replaced, those with null removed."""
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
    """A record's value with the patch applied.

    Raises:
        UnpatchableError: the value is no JSON in UTF-8.
    """
    try:
        # The standard library's parser keeps numbers of any length as they are.
        target = json.loads((value or b"").decode())
        # NaN and Infinity, which it would read and write, are no JSON.
        return json.dumps(merge(target, patch), separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError) as error:  # both of what it decodes and of what it parses
        raise UnpatchableError(str(error)) from None


def read_patch(text: str) -> Patch:
    """Read a patch: JSON, or the name of a file that holds it.

    Raises:
        BadPatchError: it is no JSON object, or the file cannot be read.
    """
    try:
        if not text.lstrip().startswith("{"):
            text = Path(text).read_text(encoding="utf-8")
        patch = json.loads(text)
    except OSError as error:
        raise BadPatchError(f"{text}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise BadPatchError(f"no JSON: {error}") from None
    if not isinstance(patch, dict):
        raise BadPatchError("a patch is a JSON object: any other would replace each whole value")
    return patch

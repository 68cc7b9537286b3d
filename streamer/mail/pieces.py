"""A campaign's mails as pieces of JSON with holes, which need the template engine for little.

Most of a mail is the same for all recipients. It is composed once with marks in place of what
differs; cut at the marks, its JSON becomes the pieces. The holes between them are for plain
variables, such as `{{ first_name }}`, and for the part of a template that is more than that, which
the engine renders alone.

`streamer.mail.compose` and the engine say what a mail is. Where pieces might not give the same
bytes, or where there is an error to report, there are none, or they give nothing, and the engine
composes the whole mail.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from enum import Enum
from operator import itemgetter
from typing import NamedTuple, cast

import orjson

from streamer.errors import InvalidDataError
from streamer.mail.tags import tags
from streamer.mail.templates import Templates, Variables, clean_line

_NONCE = secrets.token_hex(8)
"""Makes the marks and their names unlike anything in a template. Nothing escapes its characters."""
_MARK = re.compile(f"{_NONCE}_([0-9]+)_")
_PART = f"part_{_NONCE}"
_ENTITIES = str.maketrans(
    {"<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;", "'": "&#x27;", "/": "&#x2f;"}
)
"""What the engine escapes in HTML."""
_SIMPLE = frozenset({str, int, bool, type(None), type(...)})
"""The types of values that are the same to a template if they are equal; `...` is for no value."""
_MAX_KNOWN, _MAX_KNOWN_LENGTH = 500, 4_000
"""How many results of a part are kept, and how long they may be, in characters."""
_find_special = re.compile("[<>&\"'/\\\\]").search
"""Finds what may not be written as it is, in JSON or HTML, in text that is printable."""


class _Kind(Enum):
    """What a template is for."""

    HTML = "html"
    TEXT = "text"
    LINE = "line"


class NoPiecesError(Exception):
    """The mail cannot be cut into pieces."""


class _Hole(NamedTuple):
    """Where mails differ: at a variable, or at a part of a template.

    Attributes:
        text: the variable's name, or the part.
        kind: that of the template around it.
    """

    text: str
    kind: _Kind
    is_part: bool = False


class PieceMaker:
    """Stands in for `Templates` while a mail is composed with marks, and then cuts that mail.

    Its methods raise InvalidDataError if a template cannot be rendered at all, and NoPiecesError
    if it cannot be rendered in pieces.

    Args:
        max_bytes: maximum size of a mail.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._holes: dict[_Hole, int] = {}
        self.token = self.mark("")
        """The mark of the recipient's part of the token in the unsubscribe URL."""
        self.where = self.mark(" ")
        """The mark of the recipient's part of the reference."""

    def mark(self, name: str) -> str:
        """Return the mark of a variable outside of templates."""
        return self._mark(_Hole(name, _Kind.TEXT))

    def render_html(self, source: str, variables: Variables) -> str:
        """Render with marks. `variables` are those that are the same for all recipients."""
        return self._render(_Kind.HTML, source, variables)

    def render_text(self, source: str, variables: Variables) -> str:
        """Render with marks. `variables` are those that are the same for all recipients."""
        return self._render(_Kind.TEXT, source, variables)

    def render_line(self, source: str, variables: Variables) -> str:
        """Render with marks. `variables` are those that are the same for all recipients."""
        text = self._render(_Kind.LINE, source, variables)
        if clean_line(text) != text:  # with an empty value, two line breaks would become one
            raise NoPiecesError
        return text

    def cut(self, mail: bytes, templates: Templates) -> "Pieces":
        """Cut the JSON of the mail; `templates` will render the parts."""
        if b"\\u0000" in mail:
            raise NoPiecesError
        found = _MARK.split(mail.decode())
        return Pieces(templates, found[::2], [*map(int, found[1::2])], [*self._holes])

    def _render(self, kind: _Kind, source: str, variables: Variables) -> str:
        once = Templates(self._max_bytes)
        if once.faults(source):
            raise NoPiecesError
        found = _outline(source)
        names = found.names - variables.keys()
        marks = {name: self._mark(_Hole(name, kind)) for name in names}
        if found.end > found.start:
            part = source[found.start : found.end]
            marks[_PART] = self._mark(_Hole(part, kind, is_part=True))
            source = f"{source[: found.start]}{{{{ {_PART} }}}}{source[found.end :]}"
        return _render(once, kind, source, {**variables, **marks})

    def _mark(self, hole: _Hole) -> str:
        return f"{_NONCE}_{self._holes.setdefault(hole, len(self._holes))}_"


class _Outline(NamedTuple):
    """A template as plain text and `{{ name }}`, around one part with everything else.

    Attributes:
        names: the names in the plain outputs.
        start: where that part starts; where it ends if there is none.
        end: where it ends.
    """

    names: frozenset[str]
    start: int
    end: int


def _outline(source: str) -> _Outline:
    """Take apart a template that the engine accepts.

    The part renders alone as it does in the template: it starts and ends outside of any block, and
    extends to the end of the template if it binds names.

    Raises:
        NoPiecesError: that is not possible.
    """
    found = list(tags(source))
    other = [tag for tag in found if tag.is_statement or tag.kinds != ["name"]]
    start, end = (other[0].start, other[-1].end) if other else (0, 0)
    if any(tag.keyword in ("set", "do") for tag in other):
        end = len(source)
    # Signs there would remove blanks around the part.
    if other and (source[start + 2] in "-+" or source[end - 3] in "-+"):
        raise NoPiecesError
    around = [tag.words[0] for tag in found if not start <= tag.start < end]
    return _Outline(frozenset(around), start, end)


class Pieces:
    """The pieces of a mail, and what goes between them. Thread-safe.

    Args:
        order: the holes between the pieces, as indexes.
        holes: the first is that of the token, the second that of the reference.
    """

    def __init__(
        self, templates: Templates, pieces: list[str], order: list[int], holes: list[_Hole]
    ) -> None:
        # Ends with two holes for nothing: for a single one, `itemgetter` would return no tuple.
        self._between = [""] * (2 * len(order) + 4)
        self._between[:-3:2] = pieces
        places = sorted({*order} - {0, 1}, key=lambda place: holes[place].is_part)
        # As `fill` lists them: nothing, token, reference, then the variables, then the parts.
        filled = [None, 0, 1, *places]
        self._pick = itemgetter(*map(filled.index, [*order, None, None]))
        variables = [holes[place] for place in places if not holes[place].is_part]
        self._names = [hole.text for hole in variables]
        self._kinds = [hole.kind for hole in variables]
        self._parts = [
            _TemplatePart(templates, holes[place]) for place in places if holes[place].is_part
        ]

    def fill(
        self, variables: Variables, own: Mapping[str, str], token: str, where: str
    ) -> bytes | None:
        """Return the JSON of a mail, or None if the engine must compose it.

        Args:
            variables: the recipient's.
            own: those that replace them: ids, address, name and the unsubscribe URL.
            token: the recipient's part of the token in that URL.
            where: the recipient's part of the reference.
        """
        names = self._names
        try:
            values = [*map(own.get, names, map(variables.get, names))]
            texts = cast(list[str], values) if _are_plain(values) else self._encode_each(values)
            filled = ["", token, where, *texts]
            for part in self._parts:
                filled.append(part.render(variables, own))
            between = self._between.copy()
            between[1::2] = self._pick(filled)
            return "".join(between).encode()
        except (_UnlikelyError, InvalidDataError, UnicodeEncodeError, orjson.JSONEncodeError):
            return None

    def _encode_each(self, values: Sequence[object]) -> list[str]:
        return [_encode(value, kind) for value, kind in zip(values, self._kinds, strict=True)]


class _TemplatePart:
    """A part of a template, rendered once for each combination of the values that it reads."""

    def __init__(self, templates: Templates, hole: _Hole) -> None:
        self._templates = templates
        self._hole = hole
        self._names = sorted(templates.names(hole.text))
        self._missing = [...] * len(self._names)
        self._known: dict[tuple[object, ...], str] = {}

    def render(self, variables: Variables, own: Mapping[str, str]) -> str:
        """Return what the engine renders, as in a JSON string.

        Args:
            variables: the recipient's.
            own: those that replace them.

        Raises:
            InvalidDataError: the part cannot be rendered.
            orjson.JSONEncodeError: the result cannot be encoded.
        """
        names = self._names
        values = [*map(own.get, names, map(variables.get, names, self._missing))]
        key = (*map(type, values), *values)  # True and 1 are equal
        known = self._known.get(key)
        if known is None:
            together = {**variables, **own}
            text = _render(self._templates, self._hole.kind, self._hole.text, together)
            known = _encode(text, self._hole.kind, is_escaped=True)
            is_small = len(self._known) < _MAX_KNOWN and len(known) <= _MAX_KNOWN_LENGTH
            if is_small and _SIMPLE.issuperset(key[: len(values)]):
                self._known[key] = known
        return known


class _UnlikelyError(Exception):
    """The value is one that the engine must write."""


def _are_plain(values: Sequence[object]) -> bool:
    """Whether all values are text that can be written as it is."""
    try:
        text = "".join(cast(Sequence[str], values))
    except TypeError:
        return False
    return text.isprintable() and _find_special(text) is None


def _render(templates: Templates, kind: _Kind, source: str, variables: Variables) -> str:
    """Render as the engine does, before a line is cleaned."""
    render = templates.render_html if kind is _Kind.HTML else templates.render_text
    return render(source, variables)


def _encode(value: object, kind: _Kind, *, is_escaped: bool = False) -> str:
    """Return what the engine would write for a value, as in a JSON string."""
    if type(value) is int:
        return str(value)
    if type(value) is not str or "\0" in value:
        raise _UnlikelyError
    if kind is _Kind.LINE and not value.isprintable():  # what is cleaned must be cleaned as a whole
        raise _UnlikelyError
    if kind is _Kind.HTML and not is_escaped:
        value = value.translate(_ENTITIES)
    return orjson.dumps(value)[1:-1].decode()

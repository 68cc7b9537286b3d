"""Templates in Jinja's language, compiled once, and bounded in what they may cost."""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from sys import getsizeof
from threading import Lock
from typing import TypeAlias

from minijinja import Environment, TemplateError
from pydantic import JsonValue

from streamer.errors import InvalidDataError
from streamer.mail.absent import KIND, Absent, AnyAbsent, Glimpse
from streamer.mail.language import ABSENT, Narrowed, RefusedError, narrow
from streamer.mail.values import Given, MissingKeyError, Value

Variables: TypeAlias = "Mapping[str, JsonValue | Value]"
"""By name. With a template that others wrote, only what `streamer.mail.values.readable` made."""

_MOST_CACHED = 32_000_000
# Measured: what an engine takes, and a token of a template in it, about.
_ENGINE_BYTES, _TOKEN_BYTES = 16_000, 100
# The engine escapes what is inserted in templates of such names.
_HTML, _TEXT = ".html", ".txt"
# Of what they make, lists in lists and blanks, the engine does not count the size.
_REFUSED_FILTERS = ("batch", "chain", "groupby", "pprint", "slice", "wordwrap", "zip")
_REFUSED_GLOBALS = ("debug", "dict")  # the first shows all variables
# The engine looks for a variable among the methods of the dict that holds them, too: these are
# looked up elsewhere.
_METHODS = frozenset(name for name in dir(dict) if not name.startswith("_"))
_GIVEN, _STAND_INS = "streamer__given", "streamer__stand_ins"
# An error is at a filter's name; what it is applied to stands just before.
_JUST_BEFORE, _STAND_IN = 40, re.compile(rf"{ABSENT}\[(\d+)\]")
_ATTRIBUTES = re.compile(r"(?:\.\w+)+")
_PLACE = re.compile(r" \(in template\.(?:html|txt):\d+\)\Z")
_UNDEFINED_OPERAND = re.compile(r"\(`([^`]+)` is undefined\)")
_LEAST_FUEL = 100_000
_LONGEST_DETAIL = 500


class RenderError(InvalidDataError):
    """A template cannot be rendered for this recipient; the message says why and where."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail[:_LONGEST_DETAIL])  # it may quote a name as long as the template


class UndefinedError(RenderError):
    """The template uses a variable that is not there.

    Attributes:
        name: the variable, with the attributes that were wanted of it.
    """

    def __init__(self, detail: str, name: str) -> None:
        super().__init__(detail)
        self.name = name


class TooLargeError(InvalidDataError):
    """The mail is larger than allowed, or its template would never come to an end."""


class Templates:
    """Renders templates; may be called from any thread. All share what was compiled last.

    What a template may do is bounded: it sees plain values only, uses the part of the language
    that `streamer.mail.language` lets pass, and runs on fuel, which each step and each stretch
    of text burns.

    Args:
        max_bytes: of a mail; a longer template is not compiled, and output far beyond it is cut
            off while it grows.
        most_cached: how many bytes of memory the compiled templates may take, about.
    """

    def __init__(self, max_bytes: int, most_cached: int = _MOST_CACHED) -> None:
        self._max_bytes = max_bytes
        self._fuel = max(_LEAST_FUEL, max_bytes // 4)
        self._most_cached = most_cached
        self._known: OrderedDict[tuple[str, str], _Compiled | _Faulty] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def render_html(self, source: str, variables: Variables) -> str:
        """Render; what is inserted is escaped.

        Raises:
            RenderError: bad syntax, an undefined variable (an `UndefinedError` then), or a
                failing expression.
            TooLargeError: the template is longer than a mail, or it ran out of fuel.
        """
        return self._render(_HTML, source, variables)

    def render_text(self, source: str, variables: Variables) -> str:
        """Render; what is inserted stays as it is. Raises as `render_html` does."""
        return self._render(_TEXT, source, variables)

    def check(self, source: str) -> None:
        """Compile only.

        Raises:
            RenderError: bad syntax, or what a mail may not use, with its line; or it is longer
                than a mail.
        """
        try:
            self._compiled(_TEXT, source)
        except TooLargeError as error:
            raise RenderError(str(error)) from None

    def _render(self, kind: str, source: str, variables: Variables) -> str:
        compiled = self._compiled(kind, source)
        try:
            return compiled.render(variables)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # the engine's own, and no Exception
                raise
            self._forget(kind, source)  # it cannot be used again
            raise RenderError("the template engine failed on this template") from None

    def _compiled(self, kind: str, source: str) -> "_Compiled":
        key = (kind, source)
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
        if known is None:
            if len(source) > self._max_bytes:
                raise TooLargeError(f"the template alone has more than {self._max_bytes} bytes")
            # Not under the lock: two threads may both compile it, and one's is kept.
            known = _compile(kind, source, self._fuel)
            self._keep(key, known)
        if isinstance(known, _Faulty):
            raise RenderError(known.detail)
        return known

    def _keep(self, key: tuple[str, str], known: "_Compiled | _Faulty") -> None:
        with self._lock:
            if key in self._known:
                return
            self._known[key] = known
            self._size += known.size
            while self._size > self._most_cached and len(self._known) > 1:
                _, oldest = self._known.popitem(last=False)
                self._size -= oldest.size

    def _forget(self, kind: str, source: str) -> None:
        with self._lock:
            gone = self._known.pop((kind, source), None)
            if gone is not None:
                self._size -= gone.size


@dataclass(frozen=True, slots=True)
class _Faulty:
    """Why a source cannot be compiled: what each recipient with it is told."""

    detail: str
    size: int


class _Compiled:
    """A compiled template, in an engine of its own, which renders it for one thread at a time.

    An engine for all of them could not be shared: whoever compiles waits for the one that
    renders, and holds the interpreter's lock, for which that one waits.
    """

    def __init__(self, kind: str, narrowed: Narrowed, fuel: int) -> None:
        # With debug an error names what is undefined; it costs nothing until there is one.
        self._engine = Environment(undefined_behavior="strict", fuel=fuel, debug=True)
        for name in _REFUSED_GLOBALS:
            self._engine.remove_global(name)
        for name in _REFUSED_FILTERS:
            self._engine.remove_filter(name)
        self._looks_up = sorted(_METHODS & narrowed.names)
        prelude = "".join(f"{{% set {name} = {_GIVEN}.{name} %}}" for name in self._looks_up)
        self._watched = narrowed.watched
        self._glimpse = Glimpse()
        if self._watched:
            numbers = range(1, len(self._watched) + 1)
            absent = [Absent(number, self._glimpse) for number in numbers]
            self._engine.add_global(_STAND_INS, (AnyAbsent(self._glimpse), *absent))
            prelude += f"{{% set {ABSENT} = {_STAND_INS} %}}"
        self._name = f"template{kind}"
        self._text = prelude + narrowed.text
        self._engine.add_template(self._name, self._text)
        self.size = _ENGINE_BYTES + 2 * getsizeof(self._text) + _TOKEN_BYTES * narrowed.tokens

    def render(self, variables: Variables) -> str:
        """Raises as `Templates.render_html` does, and what the engine raises when it panics."""
        given = {_GIVEN: Given(variables)} if self._looks_up else {}
        if self._watched:
            self._glimpse.position = None
        try:
            text = self._engine.render_template(self._name, **variables, **given)
        except TemplateError as error:
            raise self._lacking(error) or _translated(error, self._text) from None
        except MissingKeyError as error:
            name = str(error.key)
            raise UndefinedError(f"undefined variable: {name}, asked for by get", name) from None
        except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
            # A value, or a method of one, that has no place there.
            raise RenderError(str(error)) from None
        if lacking := self._lacking():
            raise lacking
        return text

    def _lacking(self, error: TemplateError | None = None) -> "UndefinedError | None":
        """The error of an expression that is undefined and was used."""
        position = self._glimpse.position if self._watched else None
        if not position and self._watched and error is not None and error.range is not None:
            start, end = error.range
            used = self._text.encode()[max(0, start - _JUST_BEFORE) : end]
            found = _STAND_IN.findall(used.decode(errors="ignore"))
            position = int(found[-1]) if found and KIND in error.message else None
        if not position:
            return None
        expression, line = self._watched[position - 1]
        return UndefinedError(f"undefined variable: {expression} (line {line})", expression)


def _compile(kind: str, source: str, fuel: int) -> "_Compiled | _Faulty":
    try:
        return _Compiled(kind, narrow(source), fuel)
    except RefusedError as error:
        detail = str(error)
    except TemplateError as error:
        detail = _explain(error)
    except UnicodeEncodeError:
        detail = "the template has a character that cannot be written"
    return _Faulty(detail, getsizeof(source))


def _translated(error: TemplateError, text: str) -> RenderError | TooLargeError:
    """What the engine's error means.

    Args:
        text: the template, as it was compiled.
    """
    if error.kind == "OutOfFuel":
        return TooLargeError("the template was stopped: it makes too much, or loops")
    if error.kind == "UndefinedError":
        name = _name_undefined(error, text)
        return UndefinedError(f"undefined variable: {name}{_place(error)}", name)
    if operand := _UNDEFINED_OPERAND.search(error.message):
        return UndefinedError(_explain(error), operand[1].removeprefix(f"{_GIVEN}."))
    return RenderError(_explain(error))


def _name_undefined(error: TemplateError, source: str) -> str:
    """The undefined variable, with the attributes that were wanted of it."""
    found = re.match(r"`(.+)` is undefined", error.detail or "")
    name = found[1].removeprefix(f"{_GIVEN}.") if found else "an expression"
    if error.range is not None:
        start, end = error.range
        wanted = source.encode()[start:end].decode()
        if wanted.startswith(f"{name}.") and _ATTRIBUTES.fullmatch(wanted, len(name)):
            name = wanted
    return name


def _explain(error: TemplateError) -> str:
    # The error's whole text has an excerpt of the source, and all variables.
    return f"{_PLACE.sub('', error.message).replace(f'`{_GIVEN}.', '`')}{_place(error)}"


def _place(error: TemplateError) -> str:
    return "" if error.line is None else f" (line {error.line})"

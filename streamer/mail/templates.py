"""Jinja templates, compiled once, with limits on their time and memory."""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from sys import getsizeof
from threading import Lock
from typing import TypeAlias

from minijinja import Environment, TemplateError
from pydantic import JsonValue

from streamer.errors import InvalidDataError
from streamer.mail.absent import KIND, Absent, AnyAbsent, Glimpse
from streamer.mail.language import ABSENT, Narrowed, narrow
from streamer.mail.tags import TemplateRefusedError
from streamer.mail.uses import UsedName, UseKind, uses
from streamer.mail.values import MissingKeyError, RenderVariables, Value

Variables: TypeAlias = "Mapping[str, JsonValue | Value]"
"""Variables by name. For untrusted templates, only values from `streamer.mail.values.readable`."""

_MAX_CACHED = 32_000_000
# Measured memory of an engine, and of each template token in it; approximate.
_ENGINE_BYTES, _TOKEN_BYTES = 16_000, 100
# The engine escapes inserted values in templates whose name ends in .html.
_HTML, _TEXT = ".html", ".txt"
# The engine does not count the size of their results: nested lists and blanks.
_REFUSED_FILTERS = ("batch", "chain", "groupby", "pprint", "slice", "wordwrap", "zip")
_REFUSED_GLOBALS = ("debug", "dict")  # `debug` shows all variables
# The engine also finds variables among the methods of the dict that holds them, so variables with
# such a name are looked up in a `RenderVariables` instead.
_METHODS = frozenset(name for name in dir(dict) if not name.startswith("_"))
_GIVEN, _STAND_INS = "streamer__given", "streamer__stand_ins"
# The engine locates an error at the filter's name; its operand is just before.
_JUST_BEFORE, _STAND_IN = 40, re.compile(rf"{ABSENT}\[(\d+)\]")
_ATTRIBUTES = re.compile(r"(?:\.\w+)+")
_PLACE = re.compile(r" \(in template\.(?:html|txt):\d+\)\Z")
_UNDEFINED_OPERAND = re.compile(r"\(`([^`]+)` is undefined\)")
_MIN_FUEL = 100_000
# Everything that some mail client treats as a line break: CR, LF, VT, FF, NEL, LS, PS.
_LINE_BREAKS = re.compile(r"(?:\r\n|[\n\r\x0b\x0c\x85\u2028\u2029])+")
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Control characters and line breaks."""
_FILTERS = (
    *("abs", "attr", "bool", "capitalize", "default", "dictsort", "escape", "first", "float"),
    *("format", "indent", "int", "items", "join", "last", "length", "lines", "list", "lower"),
    *("map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe"),
    *("select", "selectattr", "sort", "split", "string", "sum", "title", "tojson", "trim"),
    *("truncate", "unique", "upper", "urlencode"),
)
_TESTS = (
    *("boolean", "defined", "divisibleby", "endingwith", "eq", "even", "false", "float", "ge"),
    *("gt", "in", "integer", "iterable", "le", "lower", "lt", "mapping", "ne", "none", "number"),
    *("odd", "sameas", "sequence", "startingwith", "string", "true", "undefined", "upper"),
)
_LOOKUPS = {
    UseKind.FILTER: ("{{{{ 'x'|{} }}}}", "UnknownFilter", _FILTERS),
    UseKind.TEST: ("{{{{ 'x' is {} }}}}", "UnknownTest", _TESTS),
    UseKind.FUNCTION: ("{{{{ {}() }}}}", "UnknownFunction", ("namespace", "range")),
}
"""How to look up a name in the engine: a template, the error if it is unknown, names to suggest."""
_MAX_DETAIL = 500


class RenderError(InvalidDataError):
    """A template cannot be rendered for this recipient; the message says why and where."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail[:_MAX_DETAIL])  # may quote a name as long as the template


class UndefinedError(RenderError):
    """The template uses an undefined variable.

    Attributes:
        name: the variable, including the attributes accessed on it.
    """

    def __init__(self, detail: str, name: str) -> None:
        super().__init__(detail)
        self.name = name


class TooLargeError(InvalidDataError):
    """The mail is larger than allowed, or its template ran out of fuel."""


class Templates:
    """Renders templates. Thread-safe; threads share the cache of compiled templates.

    A template is restricted: it sees plain values only, uses the part of the language that
    `streamer.mail.language` allows, and runs on fuel, which every step and piece of text consumes.

    Args:
        max_bytes: maximum size of a mail; a longer template is not compiled, and rendering stops
            when its output grows far beyond it.
        most_cached: maximum memory of the compiled templates in bytes, approximate.
    """

    def __init__(self, max_bytes: int, most_cached: int = _MAX_CACHED) -> None:
        self._max_bytes = max_bytes
        self._fuel = max(_MIN_FUEL, max_bytes // 4)
        self._most_cached = most_cached
        self._known: OrderedDict[tuple[str, str], _Compiled | _Faulty] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def render_html(self, source: str, variables: Variables) -> str:
        """Render with inserted values escaped.

        Raises:
            UndefinedError: a variable is undefined.
            RenderError: the syntax is invalid, or an expression failed.
            TooLargeError: the template is longer than a mail, or ran out of fuel.
        """
        return self._render(_HTML, source, variables)

    def render_text(self, source: str, variables: Variables) -> str:
        """Render without escaping. Raises as `render_html` does."""
        return self._render(_TEXT, source, variables)

    def render_line(self, source: str, variables: Variables) -> str:
        """Render one line without escaping. Raises as `render_html` does."""
        return clean_line(self._render(_TEXT, source, variables))

    def faults(self, source: str) -> list[str]:
        """Return why the template cannot be rendered for anyone, each with its line.

        The syntax is invalid or not allowed, a filter, test or function does not exist, or the
        template is longer than a mail.
        """
        try:
            self._compiled(_TEXT, source)
        except (RenderError, TooLargeError) as error:
            return [str(error)]
        return [fault for use in uses(source) if (fault := _unknown(use)) is not None]

    def names(self, source: str) -> frozenset[str]:
        """Return the names of all variables that the template may use; none if it is invalid."""
        try:
            return narrow(source).names
        except TemplateRefusedError:
            return frozenset()

    def _render(self, kind: str, source: str, variables: Variables) -> str:
        compiled = self._compiled(kind, source)
        try:
            return compiled.render(variables)
        except BaseException as error:
            # The engine raises this on a Rust panic; it derives from BaseException.
            if type(error).__name__ != "PanicException":
                raise
            self._forget(kind, source)  # unusable after a panic
            raise RenderError("the template engine failed on this template") from None

    def _compiled(self, kind: str, source: str) -> "_Compiled":
        key = (kind, source)
        known = self._known.get(key)
        if known is not None and self._size > self._most_cached // 2:  # else none is evicted soon
            with self._lock:
                if key in self._known:
                    self._known.move_to_end(key)
        if known is None:
            if len(source) > self._max_bytes:
                raise TooLargeError(f"the template alone has more than {self._max_bytes} bytes")
            # Outside the lock: two threads may both compile it, and one result is kept.
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
    """A source that cannot be compiled; the detail is reported for each recipient."""

    detail: str
    size: int


class _Compiled:
    """A compiled template in its own engine, which renders it in one thread at a time.

    Sharing one engine would deadlock: a thread that compiles waits for the one that renders while
    holding the GIL, which the rendering thread needs.
    """

    def __init__(self, kind: str, narrowed: Narrowed, fuel: int) -> None:
        # In debug mode errors name the undefined variable; no cost without an error.
        self._engine = _make_engine(fuel)
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
        """Render. Raises as `Templates.render_html`, plus the engine's PanicException."""
        given = {_GIVEN: RenderVariables(variables)} if self._looks_up else {}
        if self._watched:
            self._glimpse.position = None
        try:
            text = self._engine.render_template(self._name, **variables, **given)
        except TemplateError as error:
            raise self._lacking(error) or _translated(error, self._text) from None
        except MissingKeyError as error:
            name = str(error.key)
            raise UndefinedError(f"undefined variable: {name}, read by get", name) from None
        except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
            # A value of the wrong type, or an error in one of its methods.
            raise RenderError(str(error)) from None
        if self._watched and (lacking := self._lacking()):
            raise lacking
        return text

    def _lacking(self, error: TemplateError | None = None) -> "UndefinedError | None":
        """Return the error for an undefined expression that was used, if any."""
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


def clean_line(text: str) -> str:
    """Turn line breaks into one space and remove other control characters."""
    if text.isprintable():
        return text
    return CONTROLS.sub("", _LINE_BREAKS.sub(" ", text))


def _make_engine(fuel: int) -> Environment:
    engine = Environment(undefined_behavior="strict", fuel=fuel, debug=True)
    for name in _REFUSED_GLOBALS:
        engine.remove_global(name)
    for name in _REFUSED_FILTERS:
        engine.remove_filter(name)
    return engine


def _unknown(use: UsedName) -> str | None:
    """Return the error for a filter, test or function that does not exist, or None."""
    form, kind, known = _LOOKUPS[use.kind]
    try:
        _make_engine(_MIN_FUEL).render_str(form.format(use.name))
    except TemplateError as error:
        if error.kind != kind:  # it exists, and is used without its arguments here
            return None
    else:
        return None
    near = get_close_matches(use.name, known, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"unknown {use.kind}: {use.name} (line {use.line}){hint}"


def _compile(kind: str, source: str, fuel: int) -> "_Compiled | _Faulty":
    try:
        return _Compiled(kind, narrow(source), fuel)
    except TemplateRefusedError as error:
        detail = str(error)
    except TemplateError as error:
        detail = _explain(error)
    except UnicodeEncodeError:
        detail = "the template contains a character that cannot be encoded"
    return _Faulty(detail, getsizeof(source))


def _translated(error: TemplateError, text: str) -> RenderError | TooLargeError:
    """Translate an error of the engine.

    Args:
        error: what the engine raised.
        text: the template as compiled.
    """
    if error.kind == "OutOfFuel":
        return TooLargeError("rendering stopped: too much output, or too many steps")
    if error.kind == "UndefinedError":
        name = _name_undefined(error, text)
        return UndefinedError(f"undefined variable: {name}{_place(error)}", name)
    if operand := _UNDEFINED_OPERAND.search(error.message):
        return UndefinedError(_explain(error), operand[1].removeprefix(f"{_GIVEN}."))
    return RenderError(_explain(error))


def _name_undefined(error: TemplateError, source: str) -> str:
    """Return the undefined variable, including the attributes accessed on it."""
    found = re.match(r"`(.+)` is undefined", error.detail or "")
    name = found[1].removeprefix(f"{_GIVEN}.") if found else "an expression"
    if error.range is not None:
        start, end = error.range
        wanted = source.encode()[start:end].decode()
        if wanted.startswith(f"{name}.") and _ATTRIBUTES.fullmatch(wanted, len(name)):
            name = wanted
    return name


def _explain(error: TemplateError) -> str:
    # The error's full text would include a source excerpt and all variables.
    return f"{_PLACE.sub('', error.message).replace(f'`{_GIVEN}.', '`')}{_place(error)}"


def _place(error: TemplateError) -> str:
    return "" if error.line is None else f" (line {error.line})"

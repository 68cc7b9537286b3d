"""Templates in Jinja's language, compiled once, and bounded in what they may cost."""

import re
from collections.abc import Iterable, Mapping
from threading import local
from typing import TypeAlias

from minijinja import Environment, TemplateError
from pydantic import JsonValue

from streamer.mail.language import RefusedError, check, strict
from streamer.mail.values import Value

Variables: TypeAlias = "Mapping[str, JsonValue | Value]"
"""By name. With a template that others wrote, only what `streamer.mail.values.readable` made."""

_MOST_TEMPLATES = 512
_MOST_COMPILED = 16_000_000
# The engine escapes what is inserted in templates of such names.
_HTML, _TEXT = ".html", ".txt"
# Of what they make, lists in lists and blanks, the engine does not count the size.
_REFUSED_FILTERS = ("batch", "chain", "groupby", "pprint", "slice", "wordwrap", "zip")
_REFUSED_GLOBALS = ("debug", "dict")  # the first shows all variables
# The engine looks for a variable among the methods of the dict that holds them, too: what is
# called like one and was not given would be that method, and could change what was given.
_METHODS = [name for name in dir(dict) if not name.startswith("_")]
_MENTION = re.compile(rf"\b(?:{'|'.join(_METHODS)})\b")
_ABSENT = "(...)."  # how the engine names what a literal does not have
_PLACE = re.compile(r" \(in \d+\.(?:html|txt):\d+\)\Z")
_UNDEFINED_OPERAND = re.compile(r"\(`([^`]+)` is undefined\)")
_LEAST_FUEL = 100_000
_LONGEST_DETAIL = 500


class RenderError(ValueError):
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


class TooLargeError(ValueError):
    """The mail is larger than allowed, or its template would never come to an end."""


class Templates:
    """Renders templates; may be called from any thread, each of which compiles for itself.

    What a template may do is bounded: it sees plain values only, uses the part of the language
    that `streamer.mail.language` lets pass, and runs on fuel, which each step and each stretch
    of text burns.

    Args:
        max_bytes: of a mail; a longer template is not compiled, and output far beyond it is cut
            off while it grows.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._fuel = max(_LEAST_FUEL, max_bytes // 4)
        self._threads = local()

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
            self._compiler().name(_TEXT, source, {})
        except TooLargeError as error:
            raise RenderError(str(error)) from None

    def _render(self, kind: str, source: str, variables: Variables) -> str:
        compiler = self._compiler()
        name, text = compiler.name(kind, source, variables)
        try:
            return compiler.environment.render_template(name, **variables)
        except TemplateError as error:
            if error.kind == "OutOfFuel":
                raise TooLargeError(
                    "the template was stopped: it makes too much, or loops"
                ) from None
            if error.kind == "UndefinedError":
                name = _name_undefined(error, text)
                detail = f"undefined variable: {name}{_place(error)}"
                raise UndefinedError(detail, name) from None
            if operand := _UNDEFINED_OPERAND.search(error.message):
                raise UndefinedError(_explain(error), operand[1].removeprefix(_ABSENT)) from None
            raise RenderError(_explain(error)) from None
        except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
            # A value, or a method of one, that has no place there.
            raise RenderError(str(error)) from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # the engine's own, and no Exception
                raise
            del self._threads.compiler
            raise RenderError("the template engine failed on this template") from None

    def _compiler(self) -> "_Compiler":
        compiler: _Compiler | None = getattr(self._threads, "compiler", None)
        if compiler is None:
            compiler = self._threads.compiler = _Compiler(self._max_bytes, self._fuel)
        return compiler


class _Compiler:
    """One thread's compiled templates: the ones compiled last, found by their text."""

    def __init__(self, max_bytes: int, fuel: int) -> None:
        # With debug an error names what is undefined; it costs nothing until there is one.
        self.environment = Environment(undefined_behavior="strict", fuel=fuel, debug=True)
        for name in _REFUSED_GLOBALS:
            self.environment.remove_global(name)
        for name in _REFUSED_FILTERS:
            self.environment.remove_filter(name)
        self._max_bytes = max_bytes
        self._names: dict[tuple[str, str, str], tuple[str, str]] = {}
        self._mentions: dict[str, list[str]] = {}
        self._made = 0
        self._size = 0

    def name(self, kind: str, source: str, variables: Variables) -> tuple[str, str]:
        """The name of the compiled template, and its text as it was compiled."""
        mentions = self._mentions.get(source)
        if mentions is None:
            mentions = sorted(set(_MENTION.findall(source)))
        absent = [name for name in mentions if name not in variables]
        prelude = _undefine(absent) if absent else ""
        key = (kind, prelude, source)
        known = self._names.get(key)
        if known is not None:
            self._mentions[source] = mentions
            return known
        if len(source) > self._max_bytes:
            raise TooLargeError(f"the template alone has more than {self._max_bytes} bytes")
        self._made += 1
        name = f"{self._made}{kind}"
        try:
            check(source)
            text = prelude + strict(source)
            self.environment.add_template(name, text)
        except RefusedError as error:
            raise RenderError(str(error)) from None
        except TemplateError as error:
            raise RenderError(_explain(error)) from None
        self._names[key] = name, text
        self._mentions[source] = mentions
        self._size += len(text)
        while len(self._names) > _MOST_TEMPLATES or (
            self._size > _MOST_COMPILED and len(self._names) > 1
        ):
            oldest = next(iter(self._names))
            gone, gone_text = self._names.pop(oldest)
            self._size -= len(gone_text)
            self._mentions.pop(oldest[2], None)
            self.environment.remove_template(gone)
        return name, text


def _undefine(names: Iterable[str]) -> str:
    """Statements, on the line of what follows, that make names undefined."""
    return "".join(f"{{% set {name} = {{}}.{name} %}}" for name in names)


def _name_undefined(error: TemplateError, source: str) -> str:
    """The undefined variable, with the attributes that were wanted of it."""
    found = re.match(r"`(.+)` is undefined", error.detail or "")
    name = found[1].removeprefix(_ABSENT) if found else "an expression"
    if error.range is not None:
        start, end = error.range
        wanted = source.encode()[start:end].decode()
        if re.fullmatch(rf"{re.escape(name)}(?:\.\w+)+", wanted):
            name = wanted
    return name


def _explain(error: TemplateError) -> str:
    # The error's whole text has an excerpt of the source, and all variables.
    return f"{_PLACE.sub('', error.message).replace(f'`{_ABSENT}', '`')}{_place(error)}"


def _place(error: TemplateError) -> str:
    return "" if error.line is None else f" (line {error.line})"

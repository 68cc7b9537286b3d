"""Templates in Jinja's language, compiled once, and bounded in what they may cost."""

import re
from collections.abc import Mapping
from threading import local

from minijinja import Environment, TemplateError

from streamer.mail.language import RefusedError, check
from streamer.mail.values import Object, Value, with_value

Variables = Mapping[str, Value]
"""What `streamer.mail.values.readable` makes of a recipient's variables."""

_MOST_TEMPLATES = 512
_MOST_COMPILED = 16_000_000
# The engine escapes what is inserted in templates of such names.
_HTML, _TEXT = ".html", ".txt"
# Of what they make, lists in lists and blanks, the engine does not count the size.
_REFUSED_FILTERS = ("batch", "chain", "groupby", "pprint", "slice", "wordwrap", "zip")
_REFUSED_GLOBALS = ("debug", "dict")  # the first shows all variables
_MOST_CULPRITS = 8
_LEAST_FUEL = 100_000


class RenderError(ValueError):
    """A template cannot be rendered for this recipient; the message says why and where."""


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
            RenderError: bad syntax, an undefined variable (named), or a failing expression.
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
            self._compiler().name(_TEXT, source)
        except TooLargeError as error:
            raise RenderError(str(error)) from None

    def _render(self, kind: str, source: str, variables: Variables) -> str:
        compiler = self._compiler()
        name = compiler.name(kind, source)
        try:
            return compiler.environment.render_template(name, **variables)
        except TemplateError as error:
            if error.kind == "OutOfFuel":
                raise TooLargeError(
                    "the template was stopped: it makes too much, or loops"
                ) from None
            if error.kind == "UndefinedError":
                raise RenderError(compiler.explain_undefined(name, variables, error)) from None
            raise RenderError(_first_line(error)) from None
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
        self.environment = Environment(undefined_behavior="strict", fuel=fuel, debug=False)
        for name in _REFUSED_GLOBALS:
            self.environment.remove_global(name)
        for name in _REFUSED_FILTERS:
            self.environment.remove_filter(name)
        self._max_bytes = max_bytes
        self._names: dict[tuple[str, str], str] = {}
        self._made = 0
        self._size = 0

    def name(self, kind: str, source: str) -> str:
        key = (kind, source)
        name = self._names.get(key)
        if name is not None:
            return name
        if len(source) > self._max_bytes:
            raise TooLargeError(f"the template alone has more than {self._max_bytes} bytes")
        self._made += 1
        name = f"{self._made}{kind}"
        try:
            check(source)
            self.environment.add_template(name, source)
        except RefusedError as error:
            raise RenderError(str(error)) from None
        except TemplateError as error:
            raise RenderError(_first_line(error)) from None
        self._names[key] = name
        self._size += len(source)
        while len(self._names) > _MOST_TEMPLATES or (
            self._size > _MOST_COMPILED and len(self._names) > 1
        ):
            oldest = next(iter(self._names))
            self._size -= len(oldest[1])
            self.environment.remove_template(self._names.pop(oldest))
        return name

    def explain_undefined(self, name: str, variables: Variables, error: TemplateError) -> str:
        """Name what is undefined: what fails while all other absent names have a value."""
        paths = self.environment.undeclared_variables_in_template(name, nested=True)
        absent = sorted(path for path in paths if not _resolves(path, variables))
        culprits = [
            path
            for path in absent[:_MOST_CULPRITS]
            if self._is_undefined(name, _with(variables, [p for p in absent if p != path]))
        ]
        names = ", ".join(culprits or absent[:1] or ["an expression"])
        line = re.search(r":(\d+)\)", str(error))
        return f"undefined variable: {names}" + (f" (line {line[1]})" if line else "")

    def _is_undefined(self, name: str, variables: Variables) -> bool:
        try:
            self.environment.render_template(name, **variables)
        except TemplateError as error:
            return error.kind == "UndefinedError"
        return False


def _resolves(path: str, variables: Variables) -> bool:
    value: Value | Variables = variables
    for part in path.split("."):
        if not isinstance(value, Object | Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _with(variables: Variables, paths: list[str]) -> Variables:
    """The variables, and an empty text at each of the paths."""
    result = dict(variables)
    for path in paths:
        first, *rest = path.split(".")
        result[first] = _grown(result.get(first), rest)
    return result


def _grown(value: Value, path: list[str]) -> Value:
    if not path:
        return "" if value is None else value
    owner = value if isinstance(value, Object) else Object({})
    return with_value(owner, path[0], _grown(owner.get(path[0]), path[1:]))


def _first_line(error: TemplateError) -> str:
    """The message without the excerpt, and with `line N` for the name that nobody knows."""
    return re.sub(r"\(in \d+\.(?:html|txt):(\d+)\)", r"(line \1)", str(error).partition("\n")[0])

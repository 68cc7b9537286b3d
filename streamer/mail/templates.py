"""Templates in Jinja's language, compiled once, and bounded in what they may cost."""

import re
from collections.abc import Mapping
from threading import local

from minijinja import Environment, TemplateError
from pydantic import JsonValue

Variables = Mapping[str, JsonValue]

_MOST_TEMPLATES = 512
_MOST_CULPRITS = 8
_LEAST_FUEL = 100_000


class RenderError(ValueError):
    """A template cannot be rendered for this recipient; the message says why and where."""


class TooLargeError(ValueError):
    """The mail is larger than allowed, or its template would never come to an end."""


class Templates:
    """Renders templates; may be called from any thread, each of which compiles for itself.

    What a template may do is bounded: it sees plain JSON values only, loads no other template,
    and runs on fuel, which each step and each stretch of output burns.

    Args:
        max_bytes: of a mail; output far beyond it is cut off while it grows.
    """

    def __init__(self, max_bytes: int) -> None:
        self._fuel = max(_LEAST_FUEL, max_bytes // 4)
        self._threads = local()

    def render_html(self, source: str, variables: Variables) -> str:
        """Render; what is inserted is escaped.

        Raises:
            RenderError: bad syntax, an undefined variable (named), or a failing expression.
            TooLargeError: it ran out of fuel.
        """
        return self._render("html", source, variables)

    def render_text(self, source: str, variables: Variables) -> str:
        """Render; what is inserted stays as it is. Raises as `render_html` does."""
        return self._render("text", source, variables)

    def check(self, source: str) -> None:
        """Compile only.

        Raises:
            RenderError: bad syntax, with its line.
        """
        self._compiler().name("text", source)

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
        except (TypeError, ValueError, OverflowError) as error:  # a value that has no place there
            raise RenderError(str(error)) from None

    def _compiler(self) -> "_Compiler":
        compiler: _Compiler | None = getattr(self._threads, "compiler", None)
        if compiler is None:
            compiler = self._threads.compiler = _Compiler(self._fuel)
        return compiler


class _Compiler:
    """One thread's compiled templates: the ones compiled last, found by their text."""

    def __init__(self, fuel: int) -> None:
        self.environment = Environment(
            undefined_behavior="strict",
            fuel=fuel,
            auto_escape_callback=lambda name: name.startswith("html"),
            debug=False,
        )
        self.environment.remove_global("debug")  # shows all variables
        self._names: dict[tuple[str, str], str] = {}
        self._made = 0

    def name(self, kind: str, source: str) -> str:
        key = (kind, source)
        name = self._names.get(key)
        if name is not None:
            return name
        self._made += 1
        name = f"{kind}-{self._made}"
        try:
            self.environment.add_template(name, source)
        except TemplateError as error:
            raise RenderError(_first_line(error)) from None
        self._names[key] = name
        if len(self._names) > _MOST_TEMPLATES:
            oldest = self._names.pop(next(iter(self._names)))
            self.environment.remove_template(oldest)
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
    value: JsonValue = dict(variables)
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def _with(variables: Variables, paths: list[str]) -> Variables:
    """The variables, and an empty text at each of the paths."""
    result: dict[str, JsonValue] = dict(variables)
    for path in paths:
        *parents, last = path.split(".")
        target = result
        for parent in parents:
            inner = target.get(parent)
            copied: dict[str, JsonValue] = dict(inner) if isinstance(inner, dict) else {}
            target[parent] = copied
            target = copied
        target.setdefault(last, "")
    return result


def _first_line(error: TemplateError) -> str:
    """The message without the excerpt, and with `line N` for the name that nobody knows."""
    return re.sub(r"\(in (?:html|text)-\d+:(\d+)\)", r"(line \1)", str(error).partition("\n")[0])

"""The unsubscribe page, in the reader's language. It needs no JavaScript."""

import tomllib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from streamer.settings import GatewaySettings, SettingsError

_DEFAULT = "en"
_COLOR = "#1f4fa3"
_MAX_LANGUAGES_GIVEN = 50


class PageView(StrEnum):
    """What the page says."""

    ASK = "ask"
    DONE = "done"
    UNDONE = "undone"
    UNKNOWN = "unknown"
    LATER = "later"
    MANY = "many"


_BUTTONS = {
    PageView.ASK: ("button", "?", ""),
    PageView.DONE: ("undo", "?undo", ' class="again"'),
    PageView.UNDONE: ("again", "?", ' class="again"'),
    PageView.LATER: ("retry", "", ""),
}
"""The text of a view's button, the query to which it posts (none: that of the page), and its
class."""
_TEXTS = frozenset(
    [
        *(f"{view}_title" for view in PageView),
        *PageView,
        *(text for text, _, _ in _BUTTONS.values()),
    ]
)


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """A page and its Content-Security-Policy."""

    body: bytes
    policy: str
    language: str


class Pages:
    """Renders the page.

    Raises:
        SettingsError: a language file cannot be read, or lacks a text.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._names, self._colors = settings.names, settings.colors
        self._languages = {**_built_in()}
        if settings.languages is not None:
            self._languages |= _from_folder(settings.languages, self._languages[_DEFAULT])
        here = files("streamer.gateway")
        self._page = Template(here.joinpath("page.html").read_text(encoding="utf-8"))

    def render(self, view: PageView, organization: str | None, accepted: str) -> RenderedPage:
        """Render the page.

        Args:
            view: what it says.
            organization: the sender, if known.
            accepted: the request's `Accept-Language`.
        """
        language = choose_language(accepted, self._languages)
        texts = self._languages[language]
        name = self._names.get(organization, organization) if organization else None
        style, style_hash = _style(self._colors.get(organization or "", _COLOR))
        sender = escape(name) if name else ""
        body = self._page.substitute(
            language=language,
            title=escape(texts[f"{view}_title"]),
            text=escape(texts[view]).replace("{sender}", f"<b>{sender}</b>"),
            style=style,
            sender=f'<p class="sender">{sender}</p>\n' if sender else "",
            form=_form(view, texts),
        )
        policy = (
            f"default-src 'none'; style-src '{style_hash}'; form-action 'self'; "
            f"base-uri 'none'; frame-ancestors 'none'"
        )
        return RenderedPage(body.encode(), policy, language)


def choose_language(accepted: str, known: Mapping[str, object]) -> str:
    """Return the known language that an `Accept-Language` prefers; English if there is none."""
    best, best_weight = _DEFAULT, 0.0
    for part in accepted.split(",")[:_MAX_LANGUAGES_GIVEN]:
        tag, _, parameters = part.strip().lower().partition(";")
        name, _, text = parameters.strip().partition("=")
        weight = 1.0
        if name.strip() == "q":
            try:
                weight = float(text)
            except ValueError:
                continue
        tag = tag.strip()
        found = tag if tag in known else tag.partition("-")[0]
        if found in known and best_weight < weight <= 1.0:
            best, best_weight = found, weight
    return best


def contrast(color: str) -> str:
    """Return black or white, whichever is easier to read on the color, by WCAG 2."""
    channels = (int(color[start : start + 2], 16) / 255 for start in (1, 3, 5))
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#ffffff" if 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.05 else "#000000"


def _form(view: PageView, texts: Mapping[str, str]) -> str:
    if view not in _BUTTONS:
        return ""
    text, query, kind = _BUTTONS[view]
    action = f' action="{query}"' if query else ""
    button = escape(texts[text])
    return f'<form method="post"{action}{kind}><button>{button}</button></form>\n'


@lru_cache(1_000)
def _style(color: str) -> tuple[str, str]:
    """Return the style sheet and its source expression for the Content-Security-Policy."""
    text = files("streamer.gateway").joinpath("page.css").read_text(encoding="utf-8")
    style = Template(text).substitute(color=color, contrast=contrast(color))
    return style, f"sha256-{b64encode(sha256(style.encode()).digest()).decode()}"


def _built_in() -> dict[str, dict[str, str]]:
    folder = files("streamer.gateway").joinpath("languages")
    return {
        file.name.removesuffix(".toml"): _read(file.read_text(encoding="utf-8"), file.name, {})
        for file in folder.iterdir()
        if file.name.endswith(".toml")
    }


def _from_folder(folder: Path, english: Mapping[str, str]) -> dict[str, dict[str, str]]:
    found = {}
    try:
        for path in sorted(folder.glob("*.toml")):
            text = path.read_text(encoding="utf-8")
            given = english if path.stem == _DEFAULT else {}
            found[path.stem.lower()] = _read(text, str(path), given)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"gateway.languages: {error}") from None
    if not found:
        raise SettingsError(f"gateway.languages: no .toml file in {folder}")
    return found


def _read(text: str, name: str, otherwise: Mapping[str, str]) -> dict[str, str]:
    try:
        found = {**otherwise, **tomllib.loads(text)}
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"gateway.languages: {name}: {error}") from None
    if missing := _TEXTS - found.keys():
        raise SettingsError(f"gateway.languages: {name}: missing {', '.join(sorted(missing))}")
    return {key: str(value) for key, value in found.items()}

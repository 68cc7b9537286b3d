"""Warnings about a mail before its campaign is sent. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from html.parser import HTMLParser
from typing import TypeAlias

import orjson
from pydantic import JsonValue

from streamer.mail.templates import RenderError, TooLargeError, UndefinedError

Mail: TypeAlias = dict[str, JsonValue]
"""One mail in Resend's format, decoded."""

CLIPPED_BYTES = 102 * 1024
"""Size of HTML above which Gmail clips a message."""

_SCHEMES = ("https", "mailto", "tel", "sms")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):")
_PLAIN_HTTP = re.compile(r"\bhttp://[^\s<>\"]+", re.IGNORECASE)
_AFTER_SENTENCE = ".,;:!?)]}'"
_STEP = re.compile(r"""\.?([^\W\d]\w*)|\['([^']*)'\]|\["([^"]*)"\]""")
_STAND_INS: tuple[JsonValue, ...] = ("x", 1, [])
_MAX_RENDERS = 300


class MailCheck(StrEnum):
    """The check that a warning comes from."""

    UNDEFINED_VARIABLE = "undefined_variable"
    EMPTY_SUBJECT = "empty_subject"
    MISSING_TEXT = "missing_text"
    CLIPPED_HTML = "clipped_html"
    INSECURE_LINK = "insecure_link"
    NO_UNSUBSCRIBE_LINK = "no_unsubscribe_link"


@dataclass(frozen=True, slots=True)
class MailWarning:
    """One warning, and how to fix it."""

    concern: MailCheck
    text: str
    mend: str


def read_mail(body: bytes) -> Mail:
    """Decode a mail made by `Composer.compose`."""
    mail: Mail = orjson.loads(body)
    return mail


def review(mail: Mail) -> list[MailWarning]:
    """Return warnings about a mail; none for a template stored at Resend, which is unknown here."""
    if "template" in mail:
        return []
    html, text = part(mail, "html"), part(mail, "text")
    links = find_links(html or "")
    return [
        *_check_subject(part(mail, "subject")),
        *_check_text(text),
        *_check_size(html),
        *_check_security(links, text or ""),
        *_check_unsubscribe(unsubscribe_url(mail), links, text or ""),
    ]


def part(mail: Mail, name: str) -> str | None:
    """Return a text field of a mail, or None if it is absent or not text."""
    value = mail.get(name)
    return value if isinstance(value, str) else None


def headers(mail: Mail) -> dict[str, str]:
    """Return the headers of a mail."""
    found = mail.get("headers")
    return {k: str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def unsubscribe_url(mail: Mail) -> str | None:
    """Return the unsubscribe link in a mail's headers, or None."""
    header = headers(mail).get("List-Unsubscribe")
    return None if header is None else header.removeprefix("<").removesuffix(">")


@dataclass(frozen=True, slots=True)
class Link:
    """The target of an element's `href`."""

    tag: str
    url: str


def find_links(html: str) -> list[Link]:
    """Return all `href`s of the HTML as a browser reads them, ignoring comments."""
    parser = _LinkParser()
    parser.feed(html)
    parser.close()
    return parser.links


def undefined_variables(
    render: Callable[[Mapping[str, JsonValue]], object], variables: Mapping[str, JsonValue]
) -> list[str]:
    """Return all variables that a mail needs and `variables` lacks, not just the first.

    Rendering stops at the first undefined variable, so each is filled in and the mail rendered
    again until it succeeds. Variables used only in an `if` branch that is not taken, or in items
    of a list that is itself undefined, are not found.

    Args:
        render: composes the mail with the given variables; raises as `Composer.compose` does.
        variables: those that are defined.
    """
    names: list[str] = []
    fills: list[_Fill] = []
    for _ in range(_MAX_RENDERS):
        try:
            render(_filled(variables, fills))
            break
        except UndefinedError as error:
            if error.name not in names:
                names.append(error.name)
            path = _path(error.name)
            if path and all(fill.path != path for fill in fills):
                fills.append(_Fill(path))
                continue
        except (RenderError, TooLargeError):
            pass
        if not _next_try(fills):
            break
    return names


def warnings_on_undefined(names: Sequence[str]) -> list[MailWarning]:
    """Return a warning for each undefined variable."""
    return [
        MailWarning(
            MailCheck.UNDEFINED_VARIABLE,
            f"{name} is undefined",
            f"define it for every recipient, or write {{{{ {name}|default('…') }}}}",
        )
        for name in names
    ]


def _check_subject(subject: str | None) -> Iterator[MailWarning]:
    if not (subject or "").strip():
        yield MailWarning(
            MailCheck.EMPTY_SUBJECT, "the subject is empty", "give the campaign a subject"
        )


def _check_text(text: str | None) -> Iterator[MailWarning]:
    if not (text or "").strip():
        yield MailWarning(
            MailCheck.MISSING_TEXT,
            "the mail has no text part",
            "add `text` for mail clients and spam filters that expect plain text",
        )


def _check_size(html: str | None) -> Iterator[MailWarning]:
    size = len((html or "").encode())
    if size > CLIPPED_BYTES:
        yield MailWarning(
            MailCheck.CLIPPED_HTML,
            f"the HTML has {size:,} bytes: Gmail clips messages after {CLIPPED_BYTES:,}",
            "shorten it; styles and comments count, linked images do not",
        )


def _check_security(links: Sequence[Link], text: str) -> Iterator[MailWarning]:
    for url in dict.fromkeys(link.url for link in links if not _is_safe(link.url)):
        yield MailWarning(
            MailCheck.INSECURE_LINK,
            f"the HTML links to {url!r} without https",
            "use a full URL that starts with https://",
        )
    plain = (found.rstrip(_AFTER_SENTENCE) for found in _PLAIN_HTTP.findall(text))
    for url in dict.fromkeys(plain):
        yield MailWarning(
            MailCheck.INSECURE_LINK,
            f"the text links to {url!r} without https",
            "use https:// instead of http://",
        )


def _check_unsubscribe(url: str | None, links: Sequence[Link], text: str) -> Iterator[MailWarning]:
    if url is None:
        yield MailWarning(
            MailCheck.NO_UNSUBSCRIBE_LINK,
            "the mail has no unsubscribe link in its headers or body",
            "set unsubscribe.base_url and unsubscribe.secret, and use {{ unsubscribe_url }}",
        )
        return
    in_html = any(link.tag == "a" and link.url == url for link in links)
    in_text = re.search(rf"{re.escape(url)}(?![\w-])", text)
    if not (in_html or in_text):
        yield MailWarning(
            MailCheck.NO_UNSUBSCRIBE_LINK,
            "the body shows no unsubscribe link",
            'add <a href="{{ unsubscribe_url }}"> to the HTML, or the URL to the text',
        )


def _is_safe(url: str) -> bool:
    scheme = _SCHEME.match(url.lower())
    return url.startswith("#") if scheme is None else scheme[1] in _SCHEMES


class _LinkParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[Link] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "href":
                # Browsers remove these anywhere in a URL.
                url = re.sub(r"[\t\n\r]", "", value or "").strip()
                self.links.append(Link(tag, url))
                break  # browsers ignore a second href

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        # For `<![something` the library accepts a few keywords and raises for others; browsers
        # treat it as a comment up to the next `>`.
        return self.parse_bogus_comment(i, report)


@dataclass(slots=True)
class _Fill:
    """A placeholder value for an undefined variable."""

    path: tuple[str, ...]
    choice: int = 0


def _path(name: str) -> tuple[str, ...] | None:
    """Split `a.b['c']` into its names; None if it contains anything else."""
    steps, position = [], 0
    while position < len(name):
        step = _STEP.match(name, position)
        if step is None:
            return None
        steps.append(step[step.lastindex or 0])
        position = step.end()
    return tuple(steps) or None


def _filled(variables: Mapping[str, JsonValue], fills: Sequence[_Fill]) -> dict[str, JsonValue]:
    filled = dict(variables)
    for fill in fills:
        _put(filled, fill.path, _STAND_INS[fill.choice])
    return filled


def _put(into: dict[str, JsonValue], path: tuple[str, ...], value: JsonValue) -> None:
    """Set a value at a path, copying the objects along it."""
    first, *rest = path
    if not rest:
        into[first] = value
        return
    found = into.get(first)
    inner = dict(found) if isinstance(found, dict) else {}
    _put(inner, tuple(rest), value)
    into[first] = inner


def _next_try(fills: list[_Fill]) -> bool:
    """Switch to the next combination of placeholder values; False if all were tried."""
    while fills:
        fills[-1].choice += 1
        if fills[-1].choice < len(_STAND_INS):
            return True
        fills.pop()
    return False

"""Web pages: the list of the latest mails, and a mail's preview in a sandboxed frame."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from urllib.parse import urlsplit

from streamer.sandbox.http import HttpResponse
from streamer.sandbox.recorder import Kept, Stats

# A mail's content is untrusted. Three protections: everything outside the frame is escaped; the
# frame is sandboxed, so it has no origin and runs no scripts; and this policy, which a `srcdoc`
# frame inherits, blocks all remote loads, including tracking pixels.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FENCES: Mapping[str, str] = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.3rem}
h2{font-size:1rem;margin-top:2rem}
a{color:inherit}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.35rem .8rem .35rem 0;
border-bottom:1px solid #8884;overflow-wrap:anywhere}
th{font-weight:600;white-space:nowrap}
iframe{width:100%;height:32rem;border:1px solid #8886;border-radius:6px;background:#fff}
pre{white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid #8886;border-radius:6px;
padding:.8rem}
.quiet{opacity:.65}
"""
_SHOWN = 200
_LINK = re.compile(r"<(https?://[A-Za-z0-9.:\[\]-]+(?:/[!-;=?-~]*)?)>")
_APART = frozenset({"html", "text", "headers", "tags", "from", "to", "subject"})


def listing(latest: Iterable[Kept], stats: Stats) -> HttpResponse:
    """Return the list of the latest mails, newest first."""
    rows = "".join(
        f"<tr><td>{_time(kept.wall)}<td>{_campaign(kept)}<td>{escape(_text(kept.mail.get('to')))}"
        f'<td><a href="/mails/{escape(kept.email_id)}">'
        f"{escape(_text(kept.mail.get('subject'))) or '(no subject)'}</a>"
        for kept in list(latest)[-_SHOWN:][::-1]
    )
    table = (
        f"<table><tr><th>Accepted<th>Campaign<th>To<th>Subject{rows}</table>"
        if rows
        else "<p>No mail yet."
    )
    numbers = (
        f'<p class="quiet">{stats.accepted:,} mails in {stats.calls:,} calls, '
        f"{stats.accepted_twice:,} accepted twice"
    )
    return _page("Mails accepted by the sandbox", f"{numbers}{table}")


def preview(kept: Kept) -> HttpResponse:
    """Return the page of one mail: its fields, its HTML in a sandboxed frame, its text."""
    mail = kept.mail
    rows = [
        ("From", _text(mail.get("from"))),
        ("To", _text(mail.get("to"))),
        ("Subject", _text(mail.get("subject"))),
        ("Account", kept.account),
        ("Id", kept.email_id),
    ]
    headers = mail.get("headers")
    if isinstance(headers, dict):
        rows.extend((str(name), _text(value)) for name, value in headers.items())
    tags = mail.get("tags")
    if isinstance(tags, list):
        rows.extend(
            (f"Tag {_text(tag.get('name'))}", _text(tag.get("value")))
            for tag in tags
            if isinstance(tag, dict)
        )
    rows.extend((name, _text(value)) for name, value in mail.items() if name not in _APART)
    table = "".join(f"<tr><th>{escape(name)}<td>{escape(value)}" for name, value in rows)
    parts = ['<p><a href="/">All mails</a></p>']
    target = _one_click(mail)
    if target is not None:
        # What an inbox does, RFC 8058.
        parts.append(
            f'<form method="post" action="{escape(target)}">'
            f'<input type="hidden" name="List-Unsubscribe" value="One-Click">'
            f"<button>Unsubscribe</button></form>"
        )
    parts.append(f"<table>{table}</table>")
    html, text = mail.get("html"), mail.get("text")
    if html is not None:
        frame = f'<iframe sandbox="" title="The mail" srcdoc="{escape(_text(html))}"></iframe>'
        parts.append(f"<h2>HTML</h2>{frame}")
    if text is not None:
        parts.append(f"<h2>Text</h2><pre>{escape(_text(text))}</pre>")
    return _page(_text(mail.get("subject")) or "(no subject)", "".join(parts), target)


def gone() -> HttpResponse:
    """Return a 404 page for a mail that is unknown or no longer kept."""
    response = _page("No such mail", '<p>Only the latest are kept. <a href="/">All mails</a>')
    return HttpResponse(404, response.body, response.content_type, response.headers)


def _one_click(mail: Mapping[str, object]) -> str | None:
    """Return the URL for unsubscribing by one click, if the mail has one."""
    headers = mail.get("headers")
    if not isinstance(headers, dict):
        return None
    given = {str(name).lower(): _text(value) for name, value in headers.items()}
    found = _LINK.fullmatch(given.get("list-unsubscribe", ""))
    if found is None or given.get("list-unsubscribe-post") != "List-Unsubscribe=One-Click":
        return None
    return found[1]


def _page(title: str, body: str, target: str | None = None) -> HttpResponse:
    fences = dict(_FENCES)
    if target is not None:
        parts = urlsplit(target)
        own = f"form-action {parts.scheme}://{parts.netloc}"
        fences["content-security-policy"] = _POLICY.replace("form-action 'none'", own)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1>{body}"
    )
    return HttpResponse(200, page.encode("utf-8", "replace"), "text/html; charset=utf-8", fences)


def _campaign(kept: Kept) -> str:
    return escape("/".join(part for part in (kept.organization, kept.campaign) if part))


def _time(wall: float) -> str:
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d %H:%M:%S}"


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return str(value)

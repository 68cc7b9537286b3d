"""Web pages: the latest mails, searchable and refreshed, and a mail in a sandboxed frame.

There is no script: the list is a frame that loads itself again, so that the search field beside it
keeps what is being typed.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

from streamer.sandbox.http import HttpResponse
from streamer.sandbox.recorder import Kept, Stats, Twice

# A mail's content is untrusted. Three protections: everything outside the frame is escaped; the
# frame is sandboxed, so it has no origin and runs no scripts; and this policy, which a `srcdoc`
# frame inherits, blocks all remote loads, including tracking pixels.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-src 'self'; "
    "base-uri 'none'; form-action {forms}; frame-ancestors {frames}"
)
_FENCES: Mapping[str, str] = {
    "content-security-policy": _POLICY.format(forms="'none'", frames="'none'"),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_SEARCH = {**_FENCES, "content-security-policy": _POLICY.format(forms="'self'", frames="'none'")}
_FRAMED = {**_FENCES, "content-security-policy": _POLICY.format(forms="'none'", frames="'self'")}
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
form{display:flex;flex-wrap:wrap;gap:.5rem;align-items:center}
input,select,button{font:inherit;padding:.3rem .5rem}
input[type=search]{flex:1 1 12rem}
.list{border:0;background:none;border-radius:0;height:calc(100vh - 12rem);min-height:20rem}
.framed{margin:0;padding:0;max-width:none}
@media (max-width:40rem){
body{margin:1rem auto}
.framed{margin:0}
tr{display:block;padding:.4rem 0;border-bottom:1px solid #8884}
th{display:none}
td{display:block;border:0;padding:0}
.fields th{display:block;padding:0}
}
"""
_SHOWN = 200
_LINK = re.compile(r"<(https?://[A-Za-z0-9.:\[\]-]+(?:/[!-;=?-~]*)?)>")
_REFRESH_S = 2
_APART = frozenset({"html", "text", "headers", "tags", "from", "to", "subject"})


class Search(NamedTuple):
    """What of the list is to be shown.

    Attributes:
        text: only mails that have this in an address, the subject or the id.
        campaign: only mails of this ORGANIZATION/CAMPAIGN.
        twice: instead of mails, the addresses to which a campaign was accepted more than once.
    """

    text: str = ""
    campaign: str = ""
    twice: bool = False

    @classmethod
    def parse(cls, query: str) -> "Search":
        """Read the query of a URL."""
        given = parse_qs(query)
        first = {name: values[0] for name, values in given.items()}
        return cls(first.get("q", "").strip(), first.get("campaign", ""), "twice" in first)

    def query(self) -> str:
        """Return it as the query of a URL."""
        given = {"q": self.text, "campaign": self.campaign, "twice": "1" if self.twice else ""}
        return urlencode({name: value for name, value in given.items() if value})

    def finds(self, kept: Kept) -> bool:
        """Whether a mail is to be shown."""
        if self.campaign and _name(kept) != self.campaign:
            return False
        wanted = self.text.casefold()
        fields = (kept.email_id, *(_text(kept.mail.get(f)) for f in ("from", "to", "subject")))
        return any(wanted in field.casefold() for field in fields)


def search(latest: Iterable[Kept], wanted: Search) -> HttpResponse:
    """Return the page with the search field, and a frame with what it finds."""
    names = sorted({_name(kept) for kept in latest} | ({wanted.campaign} - {""}))
    options = "".join(
        f"<option{' selected' if name == wanted.campaign else ''}>{escape(name)}" for name in names
    )
    form = (
        f'<form><input type="search" name="q" value="{escape(wanted.text)}" '
        f'placeholder="Address, subject or id" aria-label="Search">'
        f'<select name="campaign" aria-label="Campaign"><option value="">All campaigns</option>'
        f"{options}</select>"
        f'<label><input type="checkbox" name="twice" value="1"{" checked" * wanted.twice}> '
        f"accepted twice</label><button>Show</button></form>"
    )
    frame = f'<iframe class="list" title="Mails" src="/list?{escape(wanted.query())}"></iframe>'
    return _page("Mails accepted by the sandbox", f"{form}{frame}", _SEARCH)


def listing(
    latest: Iterable[Kept], twice: Sequence[Twice], stats: Stats, wanted: Search
) -> HttpResponse:
    """Return the list of the latest mails, newest first; it loads itself again."""
    numbers = (
        f'<p class="quiet">{stats.accepted:,} mails in {stats.calls:,} calls, '
        f"{stats.accepted_twice:,} accepted twice"
    )
    if wanted.twice:
        table = _table("Times Campaign To", _twice_rows(twice, wanted), "Nothing, as it should be.")
    else:
        table = _table("Accepted Campaign To Subject", _mail_rows(latest, wanted), "No mail.")
    return _page("", f"{numbers}{table}", _FRAMED)


def _mail_rows(latest: Iterable[Kept], wanted: Search) -> Iterator[str]:
    found = [kept for kept in latest if wanted.finds(kept)]
    for kept in found[-_SHOWN:][::-1]:
        yield (
            f"<tr><td>{_time(kept.wall)}<td>{escape(_name(kept))}"
            f"<td>{escape(_text(kept.mail.get('to')))}"
            f'<td><a target="_top" href="/mails/{escape(kept.email_id)}">'
            f"{escape(_text(kept.mail.get('subject'))) or '(no subject)'}</a>"
        )


def _twice_rows(twice: Sequence[Twice], wanted: Search) -> Iterator[str]:
    for each in twice:
        name = "/".join(part for part in (each.organization, each.campaign) if part)
        if wanted.campaign not in ("", name) or wanted.text.casefold() not in each.address:
            continue
        link = Search(each.address, name).query()
        yield (
            f"<tr><td>{each.times}<td>{escape(name)}"
            f'<td><a target="_top" href="/?{escape(link)}">{escape(each.address)}</a>'
        )


def _table(heads: str, rows: Iterable[str], empty: str) -> str:
    body = "".join(rows)
    head = "".join(f"<th>{word}" for word in heads.split())
    return f"<table><tr>{head}{body}</table>" if body else f"<p>{empty}"


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
    fences = _FENCES
    if target is not None:
        # What an inbox does, RFC 8058.
        parts.append(
            f'<form method="post" action="{escape(target)}">'
            f'<input type="hidden" name="List-Unsubscribe" value="One-Click">'
            f"<button>Unsubscribe</button></form>"
        )
        url = urlsplit(target)
        own = _POLICY.format(forms=f"{url.scheme}://{url.netloc}", frames="'none'")
        fences = {**_FENCES, "content-security-policy": own}
    parts.append(f'<table class="fields">{table}</table>')
    html, text = mail.get("html"), mail.get("text")
    if html is not None:
        frame = f'<iframe sandbox="" title="The mail" srcdoc="{escape(_text(html))}"></iframe>'
        source = f"<details><summary>Source</summary><pre>{escape(_text(html))}</pre></details>"
        parts.append(f"<h2>HTML</h2>{frame}{source}")
    if text is not None:
        parts.append(f"<h2>Text</h2><pre>{escape(_text(text))}</pre>")
    return _page(_text(mail.get("subject")) or "(no subject)", "".join(parts), fences)


def gone() -> HttpResponse:
    """Return a 404 page for a mail that is unknown or no longer kept."""
    response = _page("No such mail", '<p>Only the latest are kept. <a href="/">All mails</a>')
    return HttpResponse(404, response.body, response.content_type, response.headers)


def nowhere() -> HttpResponse:
    """Return a 404 page for a URL that is neither a page nor meant for a browser."""
    response = _page("No such page", '<p>The mails are here: <a href="/">all mails</a>')
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


def _page(title: str, body: str, headers: Mapping[str, str] = _FENCES) -> HttpResponse:
    """Return a page; without a title it is the framed list."""
    framed = "" if title else ' class="framed"'
    again = "" if title else f'<meta http-equiv="refresh" content="{_REFRESH_S}">'
    heading = f"<h1>{escape(title)}</h1>" if title else ""
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8">{again}'
        f"<title>{escape(title or 'Mails')}</title>"
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<body{framed}>{heading}{body}"
    )
    return HttpResponse(200, page.encode("utf-8", "replace"), "text/html; charset=utf-8", headers)


def _name(kept: Kept) -> str:
    return "/".join(part for part in (kept.organization, kept.campaign) if part)


def _time(wall: float) -> str:
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d %H:%M:%S}"


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return str(value)

"""`streamer campaign preview`: render a campaign's mail for one recipient."""

import tempfile
import webbrowser
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from pydantic import JsonValue

from streamer import private_files
from streamer.cli.common import (
    FAILED,
    CampaignArgument,
    ConfigOption,
    JsonOption,
    fail,
    read_settings,
    redis_client,
    say,
    show_json,
    warn,
)
from streamer.cli.output import say_block
from streamer.cli.sample_mail import (
    RecipientOption,
    SampleMail,
    VarsOption,
    composer_of,
    load_sample_mail,
)
from streamer.mail.compose import Composer, RenderError, TooLargeError
from streamer.mail.review import Mail, MailWarning, find_links, headers, part, read_mail, review
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.event import EventSchema
from streamer.model.reasons import Reason

_MAX_LINES = 60
_NAMES = ("mail.json", "mail.html", "mail.txt")
_MARKER = ".streamer-preview"
"""Lists the files of a folder that previews may overwrite."""


@dataclass(frozen=True, slots=True)
class _Rendered:
    """The result of rendering: a mail or an error, and warnings."""

    body: bytes | None
    error: str | None
    faults: list[str]
    warnings: list[MailWarning]

    @property
    def mail(self) -> Mail | None:
        return None if self.body is None else read_mail(self.body)


def preview(
    campaign: CampaignArgument,
    recipient: RecipientOption = None,
    variables: VarsOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write mail.html, mail.txt and mail.json (Resend's form) there."
        ),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the HTML in a browser.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Render a campaign's mail for one recipient, as a worker would, without sending it.

    Without --recipient or --vars, a sample recipient is used.
    """
    settings = read_settings(config)
    composer = composer_of(settings)
    with redis_client(settings) as client:
        sample = load_sample_mail(client, campaign, recipient, variables)
    rendered = _render(sample, composer, sample.faults(settings))
    mail = rendered.mail
    if as_json:
        show_json(_as_json(sample, rendered))
    elif mail is not None:
        _show(sample, mail)
    if rendered.body is not None and mail is not None:
        if output is not None:
            _write(output, rendered.body, mail)
        if open_:
            _open(output, mail)
    if not as_json:
        _show_remarks(rendered.warnings)
    for fault in rendered.faults:
        warn(fault)
    if rendered.faults:
        fail("no recipient can get this mail", FAILED)
    if rendered.error is not None:
        fail(f"cannot render the mail for {sample.event.email}: {rendered.error}", FAILED)


def _render(sample: SampleMail, composer: Composer, faults: list[str]) -> _Rendered:
    try:
        address = normalise(sample.event.email)
    except InvalidAddressError as error:
        return _Rendered(None, f"{Reason.INVALID_ADDRESS}: {error}", faults, [])
    try:
        body = sample.compose(composer, address)
    except RenderError as error:
        warnings = sample.explain(error, composer, address)
        return _Rendered(None, f"{Reason.RENDER_ERROR}: {error}", faults, warnings)
    except TooLargeError as error:
        return _Rendered(None, f"{Reason.TOO_LARGE}: {error}", faults, [])
    return _Rendered(body, None, faults, review(read_mail(body)))


def _as_json(sample: SampleMail, rendered: _Rendered) -> dict[str, object]:
    event = sample.event
    return {
        "organization_id": event.organization_id,
        "campaign_id": event.campaign_id,
        "recipient": EventSchema.model_validate(msgspec.structs.asdict(event)).model_dump(
            mode="json", exclude={"message"}
        ),
        "rendered": rendered.error is None,
        "error": rendered.error,
        "faults": rendered.faults,
        "bytes": None if rendered.body is None else len(rendered.body),
        "mail": rendered.mail,
        "warnings": [asdict(warning) for warning in rendered.warnings],
    }


def _show(sample: SampleMail, mail: Mail) -> None:
    event = sample.event
    say(f"campaign: {event.organization_id}/{event.campaign_id}")
    say(f"recipient: {event.recipient_id}")
    for field in ("from", "to", "reply_to", "topic_id", "scheduled_at"):
        if field in mail:
            say(f"{field}: {_words(mail[field])}")
    for name, value in headers(mail).items():
        say(f"{name}: {value}")
    for field in ("tags", "template"):
        if field in mail:
            say(f"{field}: {_words(mail[field])}")
    if (subject := part(mail, "subject")) is not None:
        say(f"subject: {subject}")
    if (text := part(mail, "text")) is not None:
        say("text:")
        say_block(text)
    if (html := part(mail, "html")) is not None:
        say(f"html: {_summary(html)}")
        if html.count("\n") < _MAX_LINES:
            say_block(html)
    if "template" in mail:
        say("the template is stored at Resend and can only be rendered there")


def _words(value: JsonValue) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, dict) and value.keys() == {"name", "value"}:
        return f"{value['name']}={value['value']}"
    return str(value)


def _summary(html: str) -> str:
    size, lines, links = len(html.encode()), html.count("\n") + 1, len(find_links(html))
    return f"{size:,} bytes, lines: {lines}, links: {links}"


def _show_remarks(warnings: list[MailWarning]) -> None:
    for warning in warnings:
        say(f": {warning.text}: {warning.mend}", mark="warning", colour="yellow")


def _write(folder: Path, body: bytes, mail: Mail) -> None:
    """Write the mail's parts, and delete those of an earlier preview that it does not have.

    Files that no preview wrote are never touched: a folder of templates may have the same names.
    """
    parts = {"mail.json": body.decode()}
    for field, name in (("html", "mail.html"), ("text", "mail.txt")):
        if (content := part(mail, field)) is not None:
            parts[name] = content
    marker = folder / _MARKER
    try:
        private_files.make_folder(folder)
        ours = marker.read_text(encoding="utf-8").splitlines() if marker.exists() else []
        for name in _NAMES:
            if name not in ours and (folder / name).exists():
                fail(f"{folder / name} was not written by preview: choose another folder")
        with private_files.replacing(marker) as stream:
            stream.writelines(f"{name}\n" for name in _NAMES)
        for name in _NAMES:
            if name not in parts:
                (folder / name).unlink(missing_ok=True)
                continue
            with private_files.replacing(folder / name) as stream:
                stream.write(parts[name])
    except OSError as error:
        fail(f"{folder}: {error.strerror}")


def _open(output: Path | None, mail: Mail) -> None:
    html = part(mail, "html")
    if html is None:
        warn("the mail has no HTML to open")
        return
    if output is None:
        # Not deleted on exit: the browser reads it later.
        output = Path(tempfile.mkdtemp(prefix="streamer-preview-"))
        with private_files.replacing(output / "mail.html") as stream:
            stream.write(html)
    page = (output / "mail.html").absolute()
    if not webbrowser.open(page.as_uri()):
        warn(f"cannot open a browser; the HTML is in {page}")

"""Benchmark data: recipients, a campaign of about 2 KB, and suppressed addresses."""

from collections.abc import Iterable, Iterator

import orjson

from streamer.model.campaign import Definition

ORGANIZATION = "bench"
SUPPRESSED_EVERY = 100
"""One in this many recipients is suppressed: 1 %."""

_PARAGRAPH = (
    "<p style='margin:0 0 16px;font:16px/1.5 Helvetica,Arial,sans-serif;color:#222'>"
    "Our spring collection is here, {{ first_name }}, with free delivery to {{ city }} until the "
    "end of the month and twenty per cent off everything that you looked at last.</p>\n"
)
_HTML = (
    "<!doctype html><html><body style='margin:0;background:#f6f6f6'>\n"
    "<h1>Hello {{ first_name }}!</h1>\n"
    + 5
    * _PARAGRAPH
    + "{% if points > 0 %}<p>You have {{ points }} points.</p>{% endif %}\n"
    "<p><a href='https://shop.example/spring?r={{ recipient_id }}'>Have a look</a></p>\n"
    "<p><a href='{{ unsubscribe_url }}'>No more of these, please</a></p>\n"
    "</body></html>\n"
)
_MESSAGE: dict[str, object] = {
    "from": "Acme <news@acme.example>",
    "subject": "{{ first_name }}, spring is here",
    "html": _HTML,
}


def definition(campaign: str) -> Definition:
    """The benchmark message as a campaign definition."""
    return Definition.model_validate(
        {**_MESSAGE, "organization_id": ORGANIZATION, "campaign_id": campaign}
    )


def address(number: int) -> str:
    """The address of a numbered recipient."""
    return f"recipient.{number}@mail-{number % 50}.example"


def recipient_id(number: int) -> str:
    """The id of a numbered recipient."""
    return f"r-{number}"


def suppressed(recipients: int) -> Iterator[str]:
    """The suppressed addresses."""
    return map(address, range(0, recipients, SUPPRESSED_EVERY))


def events(
    campaign: str, numbers: Iterable[int], *, inline: bool, organization: str = ORGANIZATION
) -> Iterator[tuple[str, bytes]]:
    """Keys and values of the input records of numbered recipients.

    Args:
        inline: whether each event carries its message.
    """
    shared: dict[str, object] = {"organization_id": organization, "campaign_id": campaign}
    if inline:
        shared["message"] = _MESSAGE
    for number in numbers:
        key = recipient_id(number)
        yield (
            key,
            orjson.dumps(
                {
                    **shared,
                    "recipient_id": key,
                    "email": address(number),
                    "variables": {
                        "first_name": f"Robin {number}",
                        "city": f"Town {number % 1000}",
                        "points": number % 7,
                    },
                }
            ),
        )

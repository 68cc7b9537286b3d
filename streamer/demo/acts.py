"""The acts, their campaigns and recipients."""

from dataclasses import dataclass

import orjson

from streamer.model.campaign import Definition

ORGANIZATION = "acme"


@dataclass(frozen=True, slots=True)
class Act:
    """One campaign.

    Attributes:
        name: the name of the act.
        recipients: number of recipients.
        workers: number of worker processes.
        kill: whether to `kill -9` one of them during the campaign.
        limit_s: target for the duration; None for no target.
        again: an earlier act, to whose readers this one writes first. In between some of them
            unsubscribe, and some mails bounce: they are not mailed again.
    """

    name: str
    recipients: int
    workers: int
    kill: bool
    limit_s: float | None
    again: "Act | None" = None

    @property
    def campaign_id(self) -> str:
        """The campaign's id."""
        return f"act-{self.name}"


_TWO = Act("two", 1_000, 1, False, 30.0)
ACTS = (Act("one", 100, 1, False, 5.0), _TWO, Act("three", 5_000, 2, True, None, again=_TWO))


def definition(act: Act) -> Definition:
    """Return the definition of an act's campaign."""
    return Definition.model_validate(
        {
            "organization_id": ORGANIZATION,
            "campaign_id": act.campaign_id,
            "from": "Acme <news@acme.test>",
            "subject": "Spring is here, {{ first_name }}",
            "html": "<h1>Hello {{ first_name }}</h1><p>Our spring offers are out.</p>"
            '<p><a href="{{ unsubscribe_url }}">No more of these</a></p>',
            "text": "Hello {{ first_name }}, our spring offers are out.\n{{ unsubscribe_url }}\n",
        }
    )


def event(act: Act, number: int) -> bytes:
    """Return the event for a recipient of an act."""
    return orjson.dumps(
        {
            "organization_id": ORGANIZATION,
            "campaign_id": act.campaign_id,
            "recipient_id": f"r-{number}",
            "email": address(act, number),
            "variables": {"first_name": f"Reader {number}"},
        }
    )


def address(act: Act, number: int) -> str:
    """Return the address of a recipient."""
    if act.again is not None and number < act.again.recipients:
        return address(act.again, number)
    return f"reader{number}.{act.name}@example.com"


def suppressed(act: Act) -> list[str]:
    """Return the suppressed addresses: 2 %."""
    return [address(act, number) for number in range(7, act.recipients, 50)]


def unsubscribing(act: Act) -> list[str]:
    """Return the addresses that unsubscribe after the act: 4 %."""
    return [address(act, number) for number in range(3, act.recipients, 25)]

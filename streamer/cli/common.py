"""Shared by the commands: options, clients, and errors reported as one line and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from pydantic import TypeAdapter, ValidationError

from streamer.cli.completion import complete_campaign, complete_organization
from streamer.cli.output import fail as fail
from streamer.cli.output import say as say
from streamer.cli.output import show_json as show_json
from streamer.cli.output import show_table as show_table
from streamer.cli.output import warn as warn
from streamer.errors import FAILED as FAILED
from streamer.errors import WRONG_USE as WRONG_USE
from streamer.kafka.error_log import KafkaErrorLog as KafkaErrorLog
from streamer.kafka.properties import COMMAND, client_properties
from streamer.ledger.connection import REDIS_ERRORS as REDIS_ERRORS
from streamer.ledger.connection import Client, connect
from streamer.ledger.failure import redis_failure
from streamer.model.campaign import CampaignName, Id
from streamer.settings import Settings, SettingsError, load

_ID: TypeAdapter[str] = TypeAdapter(Id)

YesOption = Annotated[bool, typer.Option("--yes", help="Skip the confirmation.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file (TOML).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def parse_campaign(text: str) -> CampaignName:
    """Parse ORGANIZATION/CAMPAIGN."""
    organization, slash, campaign_id = text.partition("/")
    if not slash:
        raise typer.BadParameter(f"invalid campaign {text!r}: expected ORGANIZATION/CAMPAIGN")
    return CampaignName(parse_id(organization), parse_id(campaign_id))


def parse_id(text: str) -> str:
    """Parse the id of an organization or a campaign."""
    try:
        return _ID.validate_python(text)
    except ValidationError:
        raise typer.BadParameter(
            f"invalid id {text!r}: expected 1 to 128 characters from A-Za-z0-9._:@-"
        ) from None


CampaignArgument = Annotated[
    CampaignName,
    typer.Argument(
        metavar="CAMPAIGN",
        parser=parse_campaign,
        autocompletion=complete_campaign,
        help="ORGANIZATION/CAMPAIGN.",
    ),
]
OrganizationArgument = Annotated[
    str,
    typer.Argument(
        metavar="ORGANIZATION",
        parser=parse_id,
        autocompletion=complete_organization,
        help="Organization id.",
    ),
]


def read_settings(config: Path | None) -> Settings:
    """Load the settings; exits with 2 if they are invalid."""
    try:
        return load(config)
    except SettingsError as error:
        fail(f"settings: {error}", error.exit_code)


@contextmanager
def redis_client(settings: Settings) -> Iterator[Client]:
    """A Redis client; exits with 1 if Redis cannot be used, with 2 if its URL is invalid."""
    try:
        client = connect(settings.redis)
    except ValueError as error:
        fail(f"settings: redis.url: {error}", WRONG_USE)
    except REDIS_ERRORS as error:
        fail(redis_failure(settings, error))
    try:
        yield client
    except REDIS_ERRORS as error:
        fail(redis_failure(settings, error))
    finally:
        client.close()


@contextmanager
def kafka_admin(settings: Settings) -> Iterator[AdminClient]:
    """A Kafka admin client; exits with 1 if Kafka cannot be used."""
    kafka_errors = KafkaErrorLog(settings)
    try:
        # Closed here, not whenever it is collected as garbage; see `answer_of`.
        with AdminClient(client_properties(settings, COMMAND), error_cb=kafka_errors.note) as admin:
            try:
                yield admin
            except KafkaException:
                admin.poll(0)  # delivers pending errors to `kafka_errors`
                raise
    except KafkaException as error:
        fail(kafka_errors.describe(error.args[0]))

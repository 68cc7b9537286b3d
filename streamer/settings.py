"""All settings: environment `STREAMER_SECTION__NAME`, then a TOML file, then the defaults."""

import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from streamer import setting_names
from streamer.errors import WrongUseError
from streamer.setting_names import Names, TomlFile

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]

_OF_MEMBERS = (
    "group.",
    "session.",
    "heartbeat.",
    "max.poll.",
    "partition.assignment.",
    "auto.offset.reset",
    "isolation.level",
)

_PREFIX, _CONFIG = "STREAMER_", "STREAMER_CONFIG"

DEFAULT_API_URL = "https://api.resend.com"


class SettingsError(WrongUseError):
    """The settings cannot be used; the message names each one and how to fix it."""


class Section(BaseModel):
    """Base class of sections; unknown names are errors, so that typos are noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(Section):
    bootstrap_servers: str = Field("localhost:9092", description="Initial brokers to connect to.")
    group_id: str = Field(
        "streamer", description="Consumer group, and prefix of transactional ids."
    )
    group_protocol: Literal["classic", "consumer"] = Field(
        "classic", description="`classic`, or `consumer` for the newer group protocol."
    )
    properties: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="Any librdkafka property, for TLS and SASL."
    )

    @property
    def common_properties(self) -> dict[str, str | int | float | bool]:
        """The given properties, without those that only apply to members of a consumer group."""
        return {
            name: value
            for name, value in self.properties.items()
            if not name.startswith(_OF_MEMBERS)
        }


class TopicSettings(Section):
    recipients: str = Field(
        "campaign.recipients", description="Input: one event per recipient of a campaign."
    )
    outcomes: str = Field(
        "campaign.outcomes",
        description="Exactly one outcome per input record that names a campaign.",
    )
    dead_letters: str = Field(
        "campaign.dead-letters",
        description="Input records that name no usable campaign.",
    )
    parked: str = Field(
        "campaign.parked",
        description="Records that wait while their campaign is paused or their account is held.",
    )
    results: str = Field("campaign.results", description="The summary of each finished campaign.")
    progress: str = Field(
        "campaign.progress",
        description="What each transaction of a worker ended, as counts by campaign.",
    )
    events: str = Field(
        "campaign.events",
        description="What became of mails after they were sent, and who unsubscribed. The same "
        "event may come several times.",
    )


class RedisSettings(Section):
    url: str = Field("redis://localhost:6379/0", description="A `redis://` or `rediss://` URL.")
    cluster: bool = Field(False, description="Whether the URL points to a Redis Cluster.")
    sentinels: list[str] = Field(
        default_factory=list,
        description="Addresses `host:port` of Sentinels, through which the primary is found. The "
        "URL then gives only the database, the user, the password and TLS.",
    )
    service: str | None = Field(
        None, description="The name under which the Sentinels know the primary."
    )
    sentinel_user: str | None = Field(None, description="User at the Sentinels.")
    sentinel_password: SecretStr | None = Field(None, description="Password at the Sentinels.")
    replicas: Annotated[int, Field(ge=0)] = Field(
        0,
        description="How many replicas must have what must not be forgotten, such as a pin, "
        "before anything relies on it.",
    )
    fsync: bool = Field(
        False,
        description="Whether the primary must have synced it to its disk. Needs an append-only "
        "file, and Redis 7.2 or Valkey.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.sentinels) != bool(self.service):
            raise ValueError("set both or none of sentinels and service")
        if self.sentinels and self.cluster:
            raise ValueError("a cluster has no sentinels: set only one of cluster and sentinels")
        self.sentinel_addresses  # noqa: B018 - raises ValueError
        return self

    @property
    def sentinel_addresses(self) -> list[tuple[str, int]]:
        """Host and port of each Sentinel."""
        found = []
        for address in self.sentinels:
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal():
                raise ValueError(f"{address!r} in sentinels is not host:port")
            found.append((host.strip("[]"), int(port)))
        return found

    @field_validator("url")
    @classmethod
    def _unambiguous(cls, url: str) -> str:
        """Refuse a URL of which a part of the password would be taken, and shown, as its host."""
        try:
            parts = urlsplit(url)
            is_clear = parts.scheme == "unix" or (
                parts.port != 0
                and not parts.fragment
                and "@" not in parts.path + parts.query
                and re.fullmatch(r"(/\d*)?", parts.path) is not None
            )
        except ValueError:  # quotes the port, which may be of the password
            is_clear = False
        if not is_clear or parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError(
                "expected redis://USER:PASSWORD@HOST:PORT/DATABASE; in user and password write # "
                "as %23, / as %2F, ? as %3F, % as %25"
            )
        return url


class BatchSettings(Section):
    size: Annotated[int, Field(ge=1, le=100)] = Field(
        100, description="Maximum number of mails in one call, 1 to 100."
    )
    linger_ms: Annotated[int, Field(ge=0)] = Field(
        200, description="Maximum time a record waits for its batch to fill."
    )
    max_in_flight: Positive = Field(
        8, description="Maximum number of batches that a worker sends concurrently."
    )
    max_bytes: Positive = Field(
        8_000_000, description="Maximum size of a request; a batch closes before it exceeds this."
    )


class MailSettings(Section):
    max_bytes: Positive = Field(
        1_000_000, description="Maximum size of a mail; a larger one fails as `too_large`."
    )


class DeliverySettings(Section):
    safe_window_s: Annotated[int, Field(gt=0, le=86_400)] = Field(
        82_800,
        description="How long after its pin a batch may be sent again. Must be shorter than the "
        "24 h for which Resend remembers an idempotency key.",
    )
    set_aside_s: PositiveFloat = Field(
        20.0,
        description="How long a batch must keep failing, while three others of its account "
        "succeed, before it is deferred.",
    )
    give_up_s: PositiveFloat = Field(
        3_600.0,
        description="How long after its pin a deferred batch that still fails ends as "
        "`provider_error`.",
    )
    hold_probe_s: PositiveFloat = Field(
        30.0, description="Interval of the calls that test whether a hold is over."
    )
    timeout_s: PositiveFloat = Field(30.0, description="Timeout of one call to Resend.")
    claims_ttl_s: Annotated[int, Field(gt=86_400)] = Field(
        2_592_000,
        description="How long claims are kept. Must be longer than the time within which producers "
        "may repeat an event.",
    )


class BreakerSettings(Section):
    records: Positive = Field(
        1_000, description="Number of latest records that a worker checks for dead letters."
    )
    dead_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5,
        description="If more than this share of them are dead letters, the worker exits without "
        "committing them.",
    )
    campaign_mails: Positive = Field(
        1_000,
        description="Number of latest mails of a campaign, across all workers, that are checked "
        "for failures.",
    )
    campaign_failed_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5,
        description="If more than this share of them `failed` for the same reason, the campaign "
        "is paused. 1: never.",
    )
    complaint_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.003,
        description="If more than this share of a campaign's recipients complain, of those whose "
        "mail was delivered or bounced, it is paused, once. 1: never.",
    )
    bounce_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.08,
        description="If more than this share of them bounce permanently, it is paused, once. "
        "1: never.",
    )
    feedback_minimum: Annotated[int, Field(ge=1_000)] = Field(
        1_000,
        description="Number of a campaign's recipients whose mail was delivered or bounced, from "
        "which on these two shares are checked.",
    )


class WorkerSettings(Section):
    id: str = Field(
        default_factory=socket.gethostname,
        description="Must be unique in the group, since the transactional id contains it. The "
        "default has a number appended if others on this machine use it already. `--workers N` "
        "appends the number of each worker.",
    )
    shutdown_timeout_s: PositiveFloat = Field(
        25.0,
        description="Time after SIGTERM to finish in-flight work; the next owner of the partitions "
        "continues the rest.",
    )


class MetricsSettings(Section):
    host: str = Field("", description="Address to listen on. Empty: every address of the machine.")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        9464,
        description="Port for `/metrics`, `/healthz` and `/readyz`; 0: none. Worker i of "
        "`--workers N` listens on port + i.",
    )


class UnsubscribeSettings(Section):
    base_url: str | None = Field(
        None,
        description="An https URL, to which a signed token is appended for each mail's "
        "`List-Unsubscribe`.",
    )
    secret: SecretStr | list[SecretStr] | None = Field(
        None,
        description="Signs the tokens; at least 16 bytes. In a list the first one signs and all "
        "verify.",
    )
    required: bool = Field(
        True, description="Whether workers refuse to start without the two settings above."
    )

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The secrets as bytes, with the signing one first; empty if there are none."""
        given = self.secret if isinstance(self.secret, list) else [self.secret]
        return tuple(s.get_secret_value().encode() for s in given if s is not None)


class AccountSettings(Section):
    api_key_env: str | None = Field(
        None,
        description="Environment variable with the API key. Set this, `api_key_file` or neither.",
    )
    api_key_file: Path | None = Field(
        None, description="File with the API key; read again when it changes."
    )
    organizations: list[str] | None = Field(
        None,
        description="Organizations served by this account. None: all organizations that no other "
        "account names.",
    )
    requests_per_second: Annotated[float, Field(ge=0)] = Field(
        10.0,
        description="Maximum rate of all workers together. A lower `ratelimit-limit` from Resend "
        "takes precedence; 0 uses only Resend's.",
    )

    webhook_secret_env: str | None = Field(
        None,
        description="Environment variable with the signing secret of the account's webhooks, "
        "`whsec_...`; with several, separated by blanks, while they are rotated.",
    )
    webhook_secret_file: Path | None = Field(
        None, description="File with the signing secrets; read again when it changes."
    )

    @model_validator(mode="before")
    @classmethod
    def _usual_key(cls, given: object) -> object:
        """Without a key setting, read the key from the variable that Resend's tools use."""
        if isinstance(given, dict) and all(
            given.get(name) is None for name in ("api_key_env", "api_key_file")
        ):
            return {**given, "api_key_env": "RESEND_API_KEY"}
        return given

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if (self.api_key_env is None) == (self.api_key_file is None):
            raise ValueError("set only one of api_key_env and api_key_file")
        if self.webhook_secret_env is not None and self.webhook_secret_file is not None:
            raise ValueError("set only one of webhook_secret_env and webhook_secret_file")
        return self


class GatewaySettings(Section):
    names: dict[str, str] = Field(
        default_factory=dict,
        description="The name of each organization on the unsubscribe page; without one, its id.",
    )
    colors: dict[str, Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")]] = Field(
        default_factory=dict,
        description="The color of each organization on the unsubscribe page, as `#0055aa`.",
    )
    languages: Path | None = Field(
        None,
        description="Folder with language files for the unsubscribe page, which add to the "
        "built-in ones or replace them.",
    )
    requests_per_second: PositiveFloat = Field(
        500.0,
        description="Maximum rate of page views and refused requests in all. What Resend has "
        "signed, and unsubscribing, are not limited.",
    )
    requests_per_second_by_address: PositiveFloat = Field(
        10.0, description="Maximum rate of page views and refused requests from one address."
    )
    max_connections: Positive = Field(
        2_000,
        description="Maximum number of open connections. Beyond it, those are closed that have "
        "waited longest without sending a whole request.",
    )


class ProgressSettings(Section):
    embedded: bool = Field(
        True,
        description="Whether one of the workers counts the progress of campaigns and applies mail "
        "events; otherwise run `streamer project`.",
    )
    keep_days: PositiveFloat = Field(
        90.0,
        description="How long counts of completed and cancelled campaigns are kept after their "
        "last change.",
    )


class LogSettings(Section):
    format: Literal["json", "human"] = Field("human", description="`human`, or `json` lines.")
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="`debug`, `info`, `warning` or `error`."
    )


def _default_accounts() -> dict[str, AccountSettings]:
    return {"default": AccountSettings()}


class Settings(BaseSettings):
    """All settings. `Settings()` reads only the environment; `load` also reads a file."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    redis: RedisSettings = RedisSettings()
    batch: BatchSettings = BatchSettings()
    mail: MailSettings = MailSettings()
    delivery: DeliverySettings = DeliverySettings()
    breaker: BreakerSettings = BreakerSettings()
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    metrics: MetricsSettings = MetricsSettings()
    unsubscribe: UnsubscribeSettings = UnsubscribeSettings()
    accounts: dict[str, AccountSettings] = Field(default_factory=_default_accounts, min_length=1)
    gateway: GatewaySettings = GatewaySettings()
    progress: ProgressSettings = ProgressSettings()
    log: LogSettings = LogSettings()

    @property
    def api_url(self) -> str:
        """The URL of Resend's API: `RESEND_API_URL`, e.g. for a sandbox, or the default."""
        return os.environ.get("RESEND_API_URL", DEFAULT_API_URL).rstrip("/")


def load(config: Path | None = None) -> Settings:
    """Read the settings from the environment, a TOML file and the defaults, in this precedence.

    Args:
        config: the file; None for the one named by `STREAMER_CONFIG`, if any.

    Raises:
        SettingsError: the file cannot be read, or settings are unknown or malformed. The message
            names all of them, one a line.
    """
    file = read_file(config)
    faults = list(setting_names.faults(Settings, _PREFIX, own_variables()))

    class FileSettings(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del dotenv_settings, file_secret_settings  # not used
            values = {} if file is None else file.values
            return init_settings, env_settings, InitSettingsSource(settings_cls, values)

    settings: Settings | None = None
    try:
        settings = FileSettings()
    except ValidationError as error:
        faults += _explain(error, file)
    except ValueError:  # invalid JSON in an environment variable, which `faults` has
        if not faults:
            raise
    if faults or settings is None:
        raise SettingsError("\n".join(dict.fromkeys(faults)))
    return settings


def read_file(config: Path | None) -> TomlFile | None:
    """Read the given file, or the one that `STREAMER_CONFIG` names, if any.

    Raises:
        SettingsError: it cannot be read.
    """
    named = os.environ.get(_CONFIG)
    path = config or (Path(named) if named else None)
    if path is None:
        return None
    try:
        return TomlFile(path)
    except OSError as error:
        raise SettingsError(f"settings file {path}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from None


def own_variables() -> dict[str, str]:
    """Return the environment variables that are settings, or mean to be."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_PREFIX) and name != _CONFIG
    }


def _explain(error: ValidationError, file: TomlFile | None) -> Iterator[str]:
    variables = own_variables()
    for problem in error.errors(include_url=False, include_input=False):
        names = tuple(str(part) for part in problem["loc"])
        text = problem["msg"].removeprefix("Value error, ")
        given = source(names, file, variables)
        if problem["type"] == "extra_forbidden":
            if given is not None and given.startswith(_PREFIX):
                continue  # named by `setting_names.faults`
            text = f"unknown setting{setting_names.unknown_hint(Settings, names)}"
        name = ".".join(names)
        yield f"{name}: {text} ({given or f'set it by {setting_names.variable(_PREFIX, names)}'})"


def source(names: Names, file: TomlFile | None, variables: Mapping[str, str]) -> str | None:
    """Return where a setting comes from: a variable, or FILE:LINE; None for its default."""
    for depth in range(len(names), 0, -1):
        variable = setting_names.variable(_PREFIX, names[:depth])
        if variable in variables:
            try:
                given = json.loads(variables[variable]) if depth < len(names) else None
            except json.JSONDecodeError:
                given = None
            if depth == len(names) or _has(given, names[depth:]):
                return variable
    if file is not None and file.has(names):
        return file.place(names)
    # A fault of a section as a whole has the place of the section.
    return file.place(names) if file is not None and file.has(names[:1]) else None


def _has(given: object, names: Names) -> bool:
    for name in names:
        if not isinstance(given, dict) or name not in given:
            return False
        given = given[name]
    return True

"""Every setting, once: environment `STREAMER_SECTION__NAME` over a TOML file over the defaults."""

import os
import socket
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from streamer.errors import WrongUseError

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

DEFAULT_API_URL = "https://api.resend.com"


class SettingsError(WrongUseError):
    """The settings cannot be used; the message names each one and what to do."""


class Section(BaseModel):
    """Base of the sections: a misspelt name is an error, not a default in disguise."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Kafka(Section):
    bootstrap_servers: str = "localhost:9092"
    group_id: str = "streamer"
    group_protocol: Literal["classic", "consumer"] = "classic"
    properties: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Any librdkafka property, for TLS and SASL."""

    @property
    def common_properties(self) -> dict[str, str | int | float | bool]:
        """Those of the operator's properties that are not for a member of a group alone."""
        return {
            name: value
            for name, value in self.properties.items()
            if not name.startswith(_OF_MEMBERS)
        }


class Topics(Section):
    recipients: str = "campaign.recipients"
    outcomes: str = "campaign.outcomes"
    dead_letters: str = "campaign.dead-letters"
    parked: str = "campaign.parked"
    results: str = "campaign.results"


class Redis(Section):
    url: str = "redis://localhost:6379/0"
    cluster: bool = False


class Batch(Section):
    size: Annotated[int, Field(ge=1, le=100)] = 100
    linger_ms: Annotated[int, Field(ge=0)] = 200
    """The longest that a record waits for its batch to fill."""
    max_in_flight: Positive = 8
    """Batches a worker."""
    max_bytes: Positive = 8_000_000


class Mail(Section):
    max_bytes: Positive = 1_000_000


class Delivery(Section):
    safe_window_s: Annotated[int, Field(gt=0, le=86_400)] = 82_800
    """Within it a pinned batch may be sent again: under the 24 h for which Resend keeps a key."""
    set_aside_s: PositiveFloat = 20.0
    give_up_s: PositiveFloat = 3_600.0
    hold_probe_s: PositiveFloat = 30.0
    timeout_s: PositiveFloat = 30.0
    claims_ttl_s: Annotated[int, Field(gt=86_400)] = 2_592_000
    """How long a claim is kept: longer than upstream may repeat an event."""


class Breaker(Section):
    records: Positive = 1_000
    """Of so many records that a worker had last,"""
    dead_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """so large a share may be dead letters: with more the worker ends, before it commits them."""
    campaign_mails: Positive = 1_000
    """Of so many mails of a campaign that ended last at a worker,"""
    campaign_failed_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """so large a share may be `failed` for one reason: with more it is paused. 1: never."""


class Worker(Section):
    id: str = Field(default_factory=socket.gethostname)
    """Unique in the group; a supervisor adds each worker's number."""
    shutdown_timeout_s: PositiveFloat = 25.0


class Metrics(Section):
    port: Annotated[int, Field(ge=0, le=65_535)] = 9464
    """0: none. Worker i of `--workers N` takes port + i."""


class Unsubscribe(Section):
    base_url: str | None = None
    secret: SecretStr | list[SecretStr] | None = None
    """The first signs, all verify."""
    required: bool = True

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The secrets as bytes, the signing one first; empty if there is none."""
        given = self.secret if isinstance(self.secret, list) else [self.secret]
        return tuple(s.get_secret_value().encode() for s in given if s is not None)


class Account(Section):
    api_key_env: str | None = None
    api_key_file: Path | None = None
    organizations: list[str] | None = None
    """None: every organization that no other account names."""
    requests_per_second: Annotated[float, Field(ge=0)] = 10.0

    @model_validator(mode="before")
    @classmethod
    def _usual_key(cls, given: object) -> object:
        """Where only other settings are given, the key is where Resend's own tools look for it."""
        if isinstance(given, dict) and all(
            given.get(name) is None for name in ("api_key_env", "api_key_file")
        ):
            return {**given, "api_key_env": "RESEND_API_KEY"}
        return given

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if (self.api_key_env is None) == (self.api_key_file is None):
            raise ValueError("give one of api_key_env and api_key_file")
        return self


class Progress(Section):
    embedded: bool = True
    """Whether the workers count the progress of campaigns, one of them at a time; otherwise run
    `streamer project`."""
    keep_days: PositiveFloat = 90.0
    """How long the counts of a campaign that is completed or cancelled are kept after the last
    change."""


class Log(Section):
    format: Literal["json", "human"] = "human"
    level: Literal["debug", "info", "warning", "error"] = "info"


def _default_accounts() -> dict[str, Account]:
    return {"default": Account()}


class Settings(BaseSettings):
    """All settings. `Settings()` reads the environment alone; use `load` for a file too."""

    model_config = SettingsConfigDict(
        env_prefix="STREAMER_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    kafka: Kafka = Kafka()
    topics: Topics = Topics()
    redis: Redis = Redis()
    batch: Batch = Batch()
    mail: Mail = Mail()
    delivery: Delivery = Delivery()
    breaker: Breaker = Breaker()
    worker: Worker = Field(default_factory=Worker)
    metrics: Metrics = Metrics()
    unsubscribe: Unsubscribe = Unsubscribe()
    accounts: dict[str, Account] = Field(default_factory=_default_accounts, min_length=1)
    progress: Progress = Progress()
    log: Log = Log()

    @property
    def api_url(self) -> str:
        """Where Resend's API is: `RESEND_API_URL`, for a sandbox."""
        return os.environ.get("RESEND_API_URL", DEFAULT_API_URL).rstrip("/")


def load(config: Path | None = None) -> Settings:
    """Read the settings: environment over the TOML file `config`, or the one that the
    environment's `STREAMER_CONFIG` names, over the defaults.

    Raises:
        SettingsError: the file cannot be read, or a setting is unknown or malformed.
    """
    named = os.environ.get("STREAMER_CONFIG")
    path = config or (Path(named) if named else None)

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
            del dotenv_settings, file_secret_settings  # two places are enough to look in
            return (
                init_settings,
                env_settings,
                TomlConfigSettingsSource(settings_cls, toml_file=path),
            )

    if path is not None and not path.is_file():
        raise SettingsError(f"there is no settings file {path}")
    try:
        return FileSettings()
    except ValidationError as error:
        raise SettingsError(_explain(error, path)) from None
    except ValueError as error:  # broken TOML, or JSON in an environment variable
        raise SettingsError(f"{path or 'environment'}: {error}") from None


def _explain(error: ValidationError, path: Path | None) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in problem["loc"])
        variable = "STREAMER_" + "__".join(str(part) for part in problem["loc"]).upper()
        lines.append(f"{name}: {problem['msg']} (set by {variable}, or in {path or 'a file'})")
    return "; ".join(lines)

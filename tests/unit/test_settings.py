"""Settings: the environment over the file over the defaults, and clear words about mistakes."""

import os
import re
import socket
from pathlib import Path

import pytest

from streamer.settings import AccountSettings, SettingsError, load


def test_the_environment_overrides_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "streamer.toml"
    file.write_text('[batch]\nsize = 50\nlinger_ms = 10\n[kafka]\ngroup_id = "g"\n')
    monkeypatch.setenv("STREAMER_BATCH__SIZE", "70")
    settings = load(file)
    assert (settings.batch.size, settings.batch.linger_ms) == (70, 10)
    assert settings.kafka.group_id == "g"
    monkeypatch.setenv("STREAMER_CONFIG", str(file))
    assert load().batch.linger_ms == 10


def test_lists_and_tables_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_KAFKA__PROPERTIES", '{"security.protocol": "SSL"}')
    monkeypatch.setenv(
        "STREAMER_ACCOUNTS", '{"a": {"api_key_env": "A", "organizations": ["acme"]}}'
    )
    settings = load()
    assert settings.kafka.properties == {"security.protocol": "SSL"}
    assert settings.accounts["a"].organizations == ["acme"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[batch]\nsize = 101\n", "batch.size: .*streamer.toml:2"),
        ("[batch]\nsise = 10\n", r"batch.sise: unknown setting; did you mean size\? .*toml:2"),
        ("[batsch]\nsize = 10\n", r"batsch: unknown setting; did you mean batch\? .*toml:1"),
        ("[batch\n", "streamer.toml: .*line 1, column 7"),
        ('[accounts.a]\napi_key_env = "A"\napi_key_file = "b"\n', "api_key_env"),
        ("accounts = {}\n", "accounts"),
        ("[delivery]\nsafe_window_s = 90000\n", "delivery.safe_window_s"),
        ('[redis]\nsentinels = ["a:1"]\n', "both or none of sentinels and service"),
        ('[redis]\nsentinels = ["a"]\nservice = "x"\n', "'a' in sentinels is not host:port"),
        ('[redis]\nsentinels = ["a:1"]\nservice = "x"\ncluster = true\n', "only one of cluster"),
        ("[redis]\nreplicas = -1\n", "redis.replicas"),
    ],
)
def test_an_invalid_setting_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "streamer.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=words):
        load(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere"):
        load(tmp_path / "nowhere.toml")


_DEFAULTS = {
    "kafka.bootstrap_servers": "localhost:9092",
    "kafka.group_id": "streamer",
    "kafka.group_protocol": "classic",
    "kafka.properties": {},
    "topics.recipients": "campaign.recipients",
    "topics.outcomes": "campaign.outcomes",
    "topics.dead_letters": "campaign.dead-letters",
    "topics.parked": "campaign.parked",
    "topics.results": "campaign.results",
    "topics.progress": "campaign.progress",
    "topics.events": "campaign.events",
    "redis.url": "redis://localhost:6379/0",
    "redis.cluster": False,
    "batch.size": 100,
    "batch.linger_ms": 200,
    "batch.max_in_flight": 8,
    "batch.max_bytes": 8_000_000,
    "mail.max_bytes": 1_000_000,
    "delivery.safe_window_s": 82_800,
    "delivery.set_aside_s": 20,
    "delivery.give_up_s": 3600,
    "delivery.hold_probe_s": 30,
    "delivery.timeout_s": 30,
    "worker.id": socket.gethostname(),
    "worker.shutdown_timeout_s": 25,
    "metrics.port": 9464,
    "unsubscribe.base_url": None,
    "unsubscribe.secret": None,
    "unsubscribe.required": True,
    "progress.embedded": True,
}


@pytest.mark.parametrize(("name", "default"), _DEFAULTS.items(), ids=_DEFAULTS)
def test_the_defaults(name: str, default: object, monkeypatch: pytest.MonkeyPatch) -> None:
    _clear(monkeypatch)
    section, _, setting = name.partition(".")
    assert load().model_dump()[section][setting] == default


def test_the_default_account(monkeypatch: pytest.MonkeyPatch) -> None:
    _clear(monkeypatch)
    assert load().accounts == {"default": AccountSettings(api_key_env="RESEND_API_KEY")}
    assert load().accounts["default"].organizations is None
    assert load().accounts["default"].requests_per_second == 10
    assert load().api_url == "https://api.resend.com"
    monkeypatch.setenv("RESEND_API_URL", "http://localhost:8025/")
    assert load().api_url == "http://localhost:8025"


def test_an_account_without_a_key_setting_takes_the_usual_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _clear(monkeypatch)
    monkeypatch.setenv("STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND", "2")
    assert load().accounts == {
        "default": AccountSettings(api_key_env="RESEND_API_KEY", requests_per_second=2)
    }
    monkeypatch.setenv("STREAMER_ACCOUNTS", '{"acme": {"api_key_file": "/run/key"}}')
    assert load().accounts["acme"].api_key_env is None


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("STREAMER_BATCH__SIZE", "x", "batch.size: .*STREAMER_BATCH__SIZE"),
        ("STREAMER_BATCH__SISE", "1", r"unknown variable; did you mean STREAMER_BATCH__SIZE\?"),
        ("STREAMER_METRICS__PORT", "-1", "metrics.port"),
        ("STREAMER_KAFKA__GROUP_PROTOCOL", "new", "kafka.group_protocol: .*'classic'"),
        ("STREAMER_KAFKA", "{", "STREAMER_KAFKA: invalid JSON: .*line 1 column 2"),
        ("STREAMER_KAFAK__GROUP_ID", "x", r"did you mean STREAMER_KAFKA__GROUP_ID\?"),
        ("STREAMER_KAFKA_GROUP_ID", "x", r"did you mean STREAMER_KAFKA__GROUP_ID"),
        ("STREAMER_ACCOUNTS__A__ORGANIZATIONS", "acme", "ORGANIZATIONS: invalid JSON"),
        ("STREAMER_ACCOUNTS__A__ORGS", "[]", "STREAMER_ACCOUNTS__A__ORGS: unknown variable"),
        ("STREAMER_ACCOUNTS", '{"a": {"api_key_env": "A", "api_key_file": "b"}}', "one of"),
    ],
)
def test_an_invalid_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    _clear(monkeypatch)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=words):
        load()


def test_secrets_may_be_one_several_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    _clear(monkeypatch)
    assert load().unsubscribe.secrets == ()
    monkeypatch.setenv("STREAMER_UNSUBSCRIBE__SECRET", "a secret as plain text")
    assert load().unsubscribe.secrets == (b"a secret as plain text",)


def _clear(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in os.environ:
        if variable.startswith(("STREAMER_", "RESEND_API_URL")):
            monkeypatch.delenv(variable)


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_UNSUBSCRIBE__SECRET", '["the first secret", "the second"]')
    settings = load()
    assert settings.unsubscribe.secrets == (b"the first secret", b"the second")
    assert "first secret" not in repr(settings) + str(settings.model_dump())


@pytest.mark.parametrize(
    "url",
    [
        "redis://:pa#s3cret@redis.test:6379/0",
        "redis://:pa/s3cret@redis.test:6379/0",
        "redis://:pa?s3cret@redis.test:6379/0",
        "redis://ann:12/s3cret@redis.test/0",
        "redis://ann:12?s3cret@redis.test/0",
        "redis://redis.test:s3cret/0",
        "redis://redis.test/s3cret",
        "https://redis.test",
    ],
)
def test_no_part_of_a_password_is_taken_for_the_address(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMER_REDIS__URL", url)
    with pytest.raises(SettingsError, match=r"redis\.url: expected redis://") as error:
        load()
    assert not re.search(r"s3cret|pa[#/?]|:12|redis\.test", str(error.value))


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://redis.test",
        "redis://ann:p%23%2F%3F@redis.test:6380/3?protocol=3",
        "rediss://:p@ss@[::1]:6380/",
        "unix:///run/redis.sock?db=1",
        "unix://ann:secret@/run/redis.sock",
    ],
)
def test_an_unambiguous_redis_url_is_accepted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_REDIS__URL", url)
    assert load().redis.url == url


def test_every_mistake_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _clear(monkeypatch)
    file = tmp_path / "streamer.toml"
    file.write_text('# mine\n[batch]\nsise = 5\nsize = 500\n\n[kafka]\n"group_idd" = "x"\n')
    monkeypatch.setenv("STREAMER_REDSI__URL", "x")
    monkeypatch.setenv("STREAMER_METRICS__PORT", "-1")
    with pytest.raises(SettingsError) as error:
        load(file)
    lines = str(error.value).splitlines()
    assert [line.partition(":")[0] for line in sorted(lines)] == [
        "STREAMER_REDSI__URL",
        "batch.sise",
        "batch.size",
        "kafka.group_idd",
        "metrics.port",
    ]
    assert f"({file}:4)" in str(error.value)
    assert f"({file}:7)" in str(error.value)
    assert "(STREAMER_METRICS__PORT)" in str(error.value)


def test_json_in_a_variable_takes_text_where_text_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    _clear(monkeypatch)
    monkeypatch.setenv("STREAMER_UNSUBSCRIBE__SECRET", "no json, but 16 bytes and more")
    monkeypatch.setenv("STREAMER_ACCOUNTS__A__API_KEY_ENV", "A")
    assert load().unsubscribe.secrets == (b"no json, but 16 bytes and more",)

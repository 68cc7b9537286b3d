"""Settings: the environment over the file over the defaults, and clear words about mistakes."""

from pathlib import Path

import pytest

from streamer.settings import SettingsError, load


def test_the_environment_is_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ("[batch]\nsize = 101\n", "batch.size.*STREAMER_BATCH__SIZE"),
        ("[batch]\nsise = 10\n", "batch.sise"),
        ("[batsch]\nsize = 10\n", "batsch"),
        ("[batch\n", "streamer.toml"),
        ("[accounts.a]\nrequests_per_second = 1\n", "api_key_env"),
        ("accounts = {}\n", "accounts"),
        ("[delivery]\nsafe_window_s = 90000\n", "delivery.safe_window_s"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "streamer.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=words):
        load(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere"):
        load(tmp_path / "nowhere.toml")


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_UNSUBSCRIBE__SECRET", '["the first secret", "the second"]')
    settings = load()
    assert settings.unsubscribe.secrets == (b"the first secret", b"the second")
    assert "first secret" not in repr(settings) + str(settings.model_dump())

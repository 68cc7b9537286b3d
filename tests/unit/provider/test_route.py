"""Where calls may go in the clear."""

import pytest

from streamer.provider.client import ResendClient
from streamer.settings import SettingsError


@pytest.mark.parametrize(
    "url",
    [
        "https://api.resend.com",
        "https://sandbox.example.com:8443/x",
        "http://127.0.0.1:8025",
        "http://localhost:8025",
        "http://[::1]:8025",
        "http://sandbox.test:8025",
    ],
)
def test_calls_are_encrypted_or_local(url: str) -> None:
    ResendClient(url, 1.0)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.resend.com",
        "http://sandbox:8025",
        "http://test",
        "http://10.0.0.1",
        "http://127.0.0.1.example.com",
        "ftp://api.resend.com",
        "api.resend.com",
        "http://:secret@[x",
    ],
)
def test_a_key_is_not_sent_in_the_clear(url: str) -> None:
    with pytest.raises(SettingsError, match="RESEND_API_URL") as error:
        ResendClient(url, 1.0)
    assert "secret" not in str(error.value)

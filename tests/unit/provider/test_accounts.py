"""Accounts: whose mail goes through which, and what becomes of one that left the settings."""

import logging

import pytest

from streamer.provider.accounts import Accounts, NoKeyError
from streamer.settings import AccountSettings


def test_a_removed_account_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    accounts = Accounts({"acme": AccountSettings()})
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert accounts.requests_per_second("gone") == 0
            with pytest.raises(NoKeyError, match="account gone is no longer"):
                accounts.key("gone")
    assert [record.account for record in caplog.records if hasattr(record, "account")] == ["gone"]

"""Wrong use of `account`."""

import pytest
from typer.testing import CliRunner

from streamer.cli import app


@pytest.mark.parametrize("domain", ["", " ", "nodomain", "a@acme.test", "acme..test"])
@pytest.mark.parametrize("act", ["hold", "release"])
def test_what_is_no_domain_is_refused(act: str, domain: str) -> None:
    """An empty one, as of a variable that is not set, would hold the whole account."""
    result = CliRunner().invoke(app, ["account", act, "default", "--domain", domain])
    assert result.exit_code == 2
    assert "invalid domain" in result.stderr

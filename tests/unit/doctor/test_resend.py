"""`doctor`'s check of a key's response, using the same table as sending."""

import pytest

from streamer.doctor.check_result import Level
from streamer.doctor.resend import check_response
from streamer.provider.client import ApiResponse
from streamer.settings import DEFAULT_API_URL


def _error(status: int, name: str, words: str = "Its words.") -> ApiResponse:
    return ApiResponse(status, name, words, {}, {})


def _foreign(status: int) -> ApiResponse:
    words = "not a response of Resend, but text/html: <html>"
    return ApiResponse(status, "", words, {}, {}, is_from_resend=False)


def _domains(*statuses: str) -> ApiResponse:
    listed = [{"name": f"{status}.test", "status": status} for status in statuses]
    return ApiResponse(200, "", "", {"object": "list", "data": listed}, {})


@pytest.mark.parametrize(
    ("response", "level", "text", "mend"),
    [
        (_error(401, "restricted_api_key", "This API key is restricted to only send emails"),
         Level.OK, "may send", None),
        (_error(403, "restricted_api_key", "API key is not active"),
         Level.FAILED, "not active", "provide a key"),
        (_error(400, "validation_error", "API key is invalid"),
         Level.FAILED, "API key is invalid", "provide a key"),
        (_error(422, "validation_error", "You must provide a valid API key."),
         Level.FAILED, "valid API key", "provide a key"),
        (_error(401, "missing_api_key"), Level.FAILED, "missing_api_key", "provide a key"),
        (_error(403, "suspended_api_key"), Level.FAILED, "suspended_api_key", "suspended"),
        (_error(401, "something_new"), Level.FAILED, "something_new", "see its message"),
        (_error(403, "email_above_quota"), Level.FAILED, "email_above_quota", "usage"),
        (_error(429, "monthly_quota_exceeded"), Level.FAILED, "monthly", "upgrade the plan"),
        (_error(429, "daily_quota_exceeded"), Level.WARNING, "daily", "ends by itself"),
        (_error(429, "rate_limit_exceeded"), Level.WARNING, "429", "requests_per_second"),
        (_error(404, "not_found", "The requested endpoint does not exist"),
         Level.FAILED, "404", "RESEND_API_URL"),
        (_error(403, "", "This API key is not authorized to send emails from acme.test"),
         Level.FAILED, "acme.test", "allow the key to send"),
        (_error(418, "teapot"), Level.FAILED, "teapot", "RESEND_API_URL"),
        (_error(500, "application_error"), Level.WARNING, "500", "later"),
        (_foreign(200), Level.FAILED, "not a response of Resend", "on the way"),
        (_foreign(403), Level.FAILED, "403", "on the way"),
        (_foreign(404), Level.FAILED, "404", "RESEND_API_URL"),
        (_foreign(407), Level.FAILED, "407", "HTTPS_PROXY"),
        (_foreign(502), Level.WARNING, "502", "later"),
        (ApiResponse(None, "untrusted_certificate", "certificate of x: self-signed", {}, {}),
         Level.FAILED, "self-signed", "REQUESTS_CA_BUNDLE"),
        (ApiResponse(None, "HttpClientError", "Tunnel connection failed: 407", {}, {}),
         Level.FAILED, "407", "HTTPS_PROXY"),
        (ApiResponse(200, "", "", {"hello": "world"}, {}),
         Level.FAILED, "no list", "RESEND_API_URL"),
        (_domains(), Level.WARNING, "no verified domain", "verify one"),
        (_domains("pending", "failed"), Level.WARNING, "no verified domain", "verify one"),
        (_domains("verified", "pending"), Level.OK, "domains: verified.test", None),
        (_domains("partially_verified"), Level.OK, "domains: partially_verified.test", None),
    ],
)  # fmt: skip
def test_each_response_to_a_key_is_classified(
    response: ApiResponse, level: Level, text: str, mend: str | None
) -> None:
    found = check_response("account default", response, DEFAULT_API_URL)
    assert found.level is level
    assert text in found.text
    assert (mend is None) == (found.mend is None)
    if mend is not None:
        assert mend in str(found.mend)
    if level is not Level.OK:
        elsewhere = check_response("account default", response, "http://sandbox.test")
        assert elsewhere.level is (Level.OK if "verify" in str(mend) else level)

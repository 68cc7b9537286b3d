"""Remedies for errors that hold an account or a sender domain. Pure."""

from collections.abc import Mapping

ENDS_BY_ITSELF = frozenset({"daily_quota_exceeded", "rate_limit_exceeded", "outage"})

_PUT_A_KEY = "put a key that may send where the settings say"
_SET_THE_URL = "set RESEND_API_URL right, or leave it out, and restart the workers"

_REMEDIES: Mapping[str, str] = {
    "daily_quota_exceeded": "it ends by itself; a larger plan at Resend ends it sooner",
    "monthly_quota_exceeded": "take a larger plan at Resend",
    "email_above_quota": "see the account's usage at Resend, and take a larger plan",
    "rate_limit_exceeded": "it ends by itself; if it comes again, lower requests_per_second, or "
    "see who else calls Resend with the team's keys",
    "outage": "it ends by itself, when a worker's test call gets through; see Resend's status page",
    "missing_api_key": _PUT_A_KEY,
    "invalid_api_key": f"the key is wrong or was deleted: {_PUT_A_KEY}",
    "restricted_api_key": f"the key is not active, or may not send: {_PUT_A_KEY}",
    "suspended_api_key": f"see at Resend why the key is suspended, or {_PUT_A_KEY}",
    "invalid_permission": f"the key may do other things, but not this: {_PUT_A_KEY}",
    "http_401": f"Resend refuses the key, read its words; or {_PUT_A_KEY}",
    "domain_not_verified": "verify the domain at Resend",
    "domain_not_allowed": f"let the key send from the domain, at Resend, or {_PUT_A_KEY}",
    "untrusted_certificate": "if a proxy or a firewall on the way opens TLS, name its CA in "
    "REQUESTS_CA_BUNDLE and restart the workers; else see whether RESEND_API_URL and this "
    "machine's clock are right",
    "not_found": _SET_THE_URL,
    "method_not_allowed": _SET_THE_URL,
    "invalid_idempotency_key": _SET_THE_URL,
    "invalid_access": _SET_THE_URL,
    "invalid_region": _SET_THE_URL,
}


def remedy(reason: str) -> str:
    """Return what an operator can do about an error of that name."""
    return _REMEDIES.get(reason, "see what its words ask for")

"""Remedies for errors that hold an account or a sender domain. Pure."""

from collections.abc import Mapping

ENDS_BY_ITSELF = frozenset({"daily_quota_exceeded", "rate_limit_exceeded", "outage"})

_PROVIDE_A_KEY = "provide a key with sending access where the settings expect it"
_FIX_THE_URL = "correct or unset RESEND_API_URL, and restart the workers"

_REMEDIES: Mapping[str, str] = {
    "daily_quota_exceeded": "ends by itself, or sooner with a larger plan at Resend",
    "monthly_quota_exceeded": "upgrade the plan at Resend",
    "email_above_quota": "check the account's usage at Resend, and upgrade the plan",
    "rate_limit_exceeded": "ends by itself; if it recurs, lower requests_per_second, or find "
    "out who else calls Resend with the team's keys",
    "outage": "ends by itself once a worker's test call succeeds; see Resend's status page",
    "missing_api_key": _PROVIDE_A_KEY,
    "invalid_api_key": f"the key is wrong or was deleted: {_PROVIDE_A_KEY}",
    "restricted_api_key": f"the key is not active, or may not send: {_PROVIDE_A_KEY}",
    "suspended_api_key": f"check at Resend why the key is suspended, or {_PROVIDE_A_KEY}",
    "invalid_permission": f"the key lacks the permission to send: {_PROVIDE_A_KEY}",
    "http_401": f"Resend rejects the key, see its message; or {_PROVIDE_A_KEY}",
    "domain_not_verified": "verify the domain at Resend",
    "domain_not_allowed": f"allow the key to send from the domain at Resend, or {_PROVIDE_A_KEY}",
    "untrusted_certificate": "if a proxy or firewall intercepts TLS, set REQUESTS_CA_BUNDLE to "
    "its CA and restart the workers; otherwise check RESEND_API_URL and this machine's clock",
    "not_found": _FIX_THE_URL,
    "method_not_allowed": _FIX_THE_URL,
    "invalid_idempotency_key": _FIX_THE_URL,
    "invalid_access": _FIX_THE_URL,
    "invalid_region": _FIX_THE_URL,
}


def remedy(reason: str) -> str:
    """Return what an operator can do about an error of that name."""
    return _REMEDIES.get(reason, "see Resend's message")

"""Signatures of webhooks: rotation, replay, skew, and everything that is not one."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.gateway.webhooks import RefusedWebhookError, WebhookRefusal, verify
from tests.kit.gateway import OTHER_SECRET, SECRET, signed, webhook

_BODY = webhook()


def _refusal(body: bytes, headers: dict[str, str], *secrets: str) -> WebhookRefusal:
    with pytest.raises(RefusedWebhookError) as caught:
        verify(body, headers, secrets or [SECRET])
    return caught.value.refusal


def _now() -> int:
    return int(time.time())


def test_a_signed_webhook_is_read() -> None:
    event_id, payload = verify(_BODY, signed(_BODY, "msg_1", _now()), [SECRET])
    assert (event_id, payload["type"]) == ("msg_1", "email.delivered")


def test_both_secrets_sign_during_a_rotation() -> None:
    for secret in (SECRET, OTHER_SECRET):
        headers = signed(_BODY, "msg_1", _now(), secret)
        for secrets in ([SECRET, OTHER_SECRET], [OTHER_SECRET, SECRET]):
            assert verify(_BODY, headers, secrets)
    both = signed(_BODY, "msg_1", _now())
    both["svix-signature"] = f"v1,bm8= v2,x {both['svix-signature']}"
    assert verify(_BODY, both, [SECRET])


@pytest.mark.parametrize(
    ("offset", "is_taken"), [(-310, False), (-290, True), (290, True), (310, False)]
)
def test_old_and_future_ones_are_refused(offset: int, is_taken: bool) -> None:
    headers = signed(_BODY, "msg_1", _now() + offset)
    if is_taken:
        assert verify(_BODY, headers, [SECRET])
    else:
        assert _refusal(_BODY, headers) is WebhookRefusal.STALE


def test_another_secret_is_refused() -> None:
    headers = signed(_BODY, "msg_1", _now(), OTHER_SECRET)
    assert _refusal(_BODY, headers) is WebhookRefusal.WRONG_SIGNATURE


@given(st.data())
def test_a_flipped_bit_is_refused(data: st.DataObject) -> None:
    headers = signed(_BODY, "msg_1", _now())
    body = bytearray(_BODY)
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    body[bit // 8] ^= 1 << bit % 8
    assert _refusal(bytes(body), headers) in (
        WebhookRefusal.WRONG_SIGNATURE,
        WebhookRefusal.NOT_JSON,
    )


@pytest.mark.parametrize("name", ["svix-id", "svix-timestamp", "svix-signature"])
def test_each_header_is_signed_or_needed(name: str) -> None:
    headers = signed(_BODY, "msg_1", _now())
    for value in ("", "x", f"{headers[name]}0", "\u0661"):
        assert _refusal(_BODY, {**headers, name: value}) is not WebhookRefusal.NOT_JSON
    del headers[name]
    assert _refusal(_BODY, headers) is WebhookRefusal.UNSIGNED


@given(
    st.binary(max_size=50),
    st.fixed_dictionaries(
        {},
        optional={
            "svix-id": st.text(),
            "svix-timestamp": st.text() | st.integers().map(str),
            "svix-signature": st.text(),
        },
    ),
    st.text(),
)
def test_junk_is_refused(body: bytes, headers: dict[str, str], secret: str) -> None:
    _refusal(body, headers, secret)


@pytest.mark.parametrize("body", [b"{", b"[]", b"1", b'"x"', b"null", b"\xff"])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    assert _refusal(body, signed(body, "msg_1", _now())) is WebhookRefusal.NOT_JSON

"""Each answer of Resend's, and what becomes of the recipients: its table of errors."""

from dataclasses import dataclass, replace
from enum import Enum, auto

import orjson

from streamer.sandbox import Faults, Play

Words = dict[tuple[str, str | None], int]

FEW = 4
LONG_S = 60.0
MAX_CALLS_TO_FIND_ONE_OF_A_HUNDRED = 15


class Effect(Enum):
    """What becomes of a row's recipients while the fault lasts."""

    WAITS = auto()
    """Nobody has ended, nobody is parked: the same bytes are sent again under the same key."""
    HELD = auto()
    """All are parked, and the account, or the domain, is held."""
    ENDS = auto()
    """They have their outcomes."""


@dataclass(frozen=True)
class ResponseCase:
    """An answer, and what it means.

    Attributes:
        faults: what the row's account meets.
        results: the answers as the worker names them.
        words: the outcomes of the row's recipients, at last.
        reason: of the hold.
        detail: of the outcomes that are not `sent`.
        others_go_on: whether other organizations of the account are served meanwhile.
        others: how many of them there are, with one recipient each.
        limit: requests a second of the account.
        domain: of the sender.
        has_key: whether there is a key where the settings say.
        plays: answers that the row's account gets to the letter.
        surely_refused: whether Resend has nothing of the batch. In an outage its pin is undone, and
            its recipients may go in another batch.
    """

    name: str
    faults: Faults
    effect: Effect
    results: frozenset[str]
    words: Words
    reason: str | None = None
    detail: str | None = None
    others_go_on: bool = False
    others: int = 1
    limit: int | None = None
    domain: str = "acme.test"
    has_key: bool = True
    plays: tuple[Play, ...] = ()
    surely_refused: bool = False

    @property
    def account(self) -> str:
        return "".join(letter if letter.isalnum() else "-" for letter in self.name)

    @property
    def count(self) -> int:
        return sum(self.words.values())

    @property
    def words_of_another(self) -> Words:
        """What befalls every call befalls others too; what a mail draws upon itself does not."""
        if self.effect is Effect.ENDS and not self.others_go_on:
            return dict.fromkeys(self.words, 1)
        return sent(1)

    def __str__(self) -> str:
        return self.name


def sent(count: int = FEW) -> Words:
    return {("sent", None): count}


def waits(name: str, faults: Faults, *results: str, others_go_on: bool = False) -> ResponseCase:
    """Unknown whether it was taken: asked again until it is known."""
    return ResponseCase(
        name, faults, Effect.WAITS, frozenset(results or [name]), sent(), others_go_on=others_go_on
    )


def of_the_way(name: str, play: Play, result: str) -> ResponseCase:
    """Says nothing of a mail, as it is not Resend's answer or nobody knows what it means."""
    return ResponseCase(name, Faults(), Effect.WAITS, frozenset([result]), sent(), plays=(play,))


def json_error(status: int, words: str, **name: str) -> Play:
    """An error as Resend writes it."""
    body = {"statusCode": status, "message": words, **name}
    return Play(status=status, body=orjson.dumps(body).decode())


def page(status: int) -> Play:
    """What a proxy or a firewall answers."""
    body = f"<html><body><h1>{status}</h1></body></html>"
    return Play(status=status, headers={"content-type": "text/html"}, body=body)


def held(name: str, faults: Faults) -> ResponseCase:
    """Nobody's fault: parked, and sent once it is over."""
    return ResponseCase(name, faults, Effect.HELD, frozenset([name]), sent(), reason=name)


def unreadable(name: str, faults: Faults, *results: str) -> ResponseCase:
    """Taken, but without ids: nobody may be called `sent`."""
    words: Words = {("indeterminate", "provider_error"): FEW}
    detail = "Resend accepted the batch, but its response cannot be parsed"
    return ResponseCase(name, faults, Effect.ENDS, frozenset(results), words, detail=detail)


def throttled(name: str, faults: Faults) -> ResponseCase:
    """Too fast: costs nobody anything."""
    results = frozenset(["rate_limit_exceeded"])
    return ResponseCase(
        name, faults, Effect.ENDS, results, sent(1), others_go_on=True, others=8, limit=2
    )


def rejecting(status: int) -> ResponseCase:
    """One mail spoils the whole batch."""
    faults = {"reject_addresses": ["user37@example.com"], "reject_status": status}
    return ResponseCase(
        f"{status}, one recipient spoils its batch",
        Faults.model_validate(faults),
        Effect.ENDS,
        frozenset(["validation_error"]),
        {("sent", None): 99, ("failed", "rejected"): 1},
        detail="The request was refused.",
        others_go_on=True,
    )


CASES = [
    # No fault. Its account waits for none of the others.
    ResponseCase("accepted", Faults(), Effect.ENDS, frozenset(), sent(), others_go_on=True),
    # 429: wait, and it costs nobody an attempt.
    throttled("rate_limit_exceeded", Faults()),
    throttled("rate_limit_exceeded, headers missing", Faults(ratelimit_headers="missing")),
    throttled("rate_limit_exceeded, headers garbled", Faults(ratelimit_headers="garbled")),
    # Outcome unknown: the same key, the same bytes.
    waits("application_error", Faults(error_before_percent=100)),
    waits("500, after acceptance", Faults(error_after_percent=100), "application_error"),
    waits("service_unavailable", Faults(outage="unavailable")),
    waits(
        "503, after acceptance",
        Faults(error_after_percent=100, error_status=503),
        "service_unavailable",
    ),
    waits(
        "502, a gateway's page",
        Faults(error_before_percent=100, error_status=502),
        "http_502",
    ),
    waits(
        "504, after acceptance",
        Faults(error_after_percent=100, error_status=504),
        "http_504",
    ),
    waits("cut before", Faults(cut_before_percent=100), "no_answer"),
    waits("cut after", Faults(cut_after_percent=100), "no_answer"),
    waits("nobody answers", Faults(outage="drop"), "no_answer"),
    waits("half a body", Faults(half_body_percent=100), "no_answer"),
    waits("timeout", Faults(hang_s=LONG_S), "no_answer", "concurrent_idempotent_requests"),
    waits(
        "500, for one batch alone",
        Faults(fail_addresses=frozenset({"user0@example.com"})),
        "application_error",
        others_go_on=True,
    ),
    # Taken, but nobody can say under which ids.
    unreadable("broken body", Faults(broken_body_percent=100), "unreadable"),
    # Its results are none: what Resend accepted is `accepted` in metrics.
    unreadable("wrong count of ids", Faults(wrong_ids_percent=100)),
    # The account is held.
    held("daily_quota_exceeded", Faults(quota="daily")),
    held("monthly_quota_exceeded", Faults(quota="monthly")),
    held("missing_api_key", Faults(refuse_key="missing_api_key")),
    held("invalid_api_key", Faults(refuse_key="invalid_api_key")),
    held("restricted_api_key", Faults(refuse_key="restricted_api_key")),
    held("suspended_api_key", Faults(refuse_key="suspended_api_key")),
    held("invalid_permission", Faults(refuse_key="invalid_permission")),
    ResponseCase(
        "no key where the settings say",
        Faults(),
        Effect.HELD,
        frozenset(),
        sent(),
        reason="missing_api_key",
        has_key=False,
    ),
    ResponseCase(
        "400, API key is invalid",
        Faults(refuse_key="validation_error"),
        Effect.HELD,
        frozenset(["validation_error"]),
        sent(),
        reason="invalid_api_key",
    ),
    # It says nothing of a mail.
    of_the_way("400, a page", page(400), "http_400"),
    of_the_way("403, a page", page(403), "http_403"),
    of_the_way("200, a page", page(200), "http_200"),
    of_the_way(
        "422, from a gate",
        Play(status=422, headers={"content-type": "text/plain"}, body="local_rate_limited"),
        "http_422",
    ),
    of_the_way("422, nothing", Play(status=422), "http_422"),
    of_the_way("402", json_error(402, "Pay first", name="payment_required"), "http_402"),
    replace(
        of_the_way(
            "413", json_error(413, "Too large", name="validation_error"), "validation_error"
        ),
        surely_refused=True,
    ),
    # The content of all.
    ResponseCase(
        "404, template not found",
        Faults(),
        Effect.ENDS,
        frozenset(["not_found"]),
        {("failed", "rejected"): FEW},
        detail="Template not found",
        plays=(json_error(404, "Template not found", name="not_found"),),
    ),
    # The sender's domain is held.
    ResponseCase(
        "403, a key that may not send for the domain",
        Faults(key_domains={"*": "acme.test"}),
        Effect.HELD,
        frozenset(["http_403"]),
        sent(),
        reason="domain_not_allowed",
        others_go_on=True,
        domain="other.test",
    ),
    ResponseCase(
        "403, domain not verified",
        Faults(unverified_domains=frozenset({"new.test"})),
        Effect.HELD,
        frozenset(["validation_error"]),
        sent(),
        reason="domain_not_verified",
        others_go_on=True,
        domain="new.test",
    ),
    # The item fails, the others do not.
    ResponseCase(
        "validation_error, of one item",
        Faults(refused=frozenset({"user0@example.com"})),
        Effect.ENDS,
        frozenset(),
        {("sent", None): FEW - 1, ("failed", "rejected"): 1},
        detail="Invalid `to` field. The address is refused by this sandbox.",
        others_go_on=True,
    ),
    ResponseCase(
        "validation_error, of every item",
        Faults(refused=frozenset({f"user{number}@example.com" for number in range(FEW)})),
        Effect.ENDS,
        frozenset(),
        {("failed", "rejected"): FEW},
        detail="Invalid `to` field. The address is refused by this sandbox.",
        others_go_on=True,
    ),
    rejecting(400),
    rejecting(422),
]  # fmt: skip


INVALID_KEY = json_error(400, "API key is invalid", name="validation_error")

"""A small caller of the sandbox, for its tests."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson
import urllib3

Mail = dict[str, object]
INVALID_TO = (
    "Invalid `to` field. The email address needs to follow the `email@example.com` or "
    "`Name <email@example.com>` format."
)


def mail(address: object = "ann@example.com", **fields: object) -> Mail:
    """A mail that is valid unless the fields make it otherwise; None leaves a field out."""
    whole: Mail = {
        "from": "Acme <news@acme.test>",
        "to": address,
        "subject": "Hello",
        "html": "<p>Hi</p>",
        "tags": [
            {"name": "campaign", "value": "spring"},
            {"name": "organization", "value": "acme"},
        ],
        **fields,
    }
    return {name: value for name, value in whole.items() if value is not None}


@dataclass(frozen=True)
class Reply:
    """An answer, header names in lower case."""

    status: int
    raw: bytes
    headers: Mapping[str, str]

    @property
    def fields(self) -> dict[str, object]:
        """Of a body that is an object."""
        body = orjson.loads(self.raw)
        assert isinstance(body, dict)
        return body

    @property
    def body(self) -> object:
        return orjson.loads(self.raw)

    @property
    def ids(self) -> list[str]:
        return [item["id"] for item in orjson.loads(self.raw)["data"]]

    @property
    def errors(self) -> list[dict[str, object]]:
        """Of a permissive batch."""
        errors = self.fields["errors"]
        assert isinstance(errors, list)
        return errors

    @property
    def error(self) -> tuple[int, str]:
        """(status, name); the body must agree with the status line."""
        body = orjson.loads(self.raw)
        assert set(body) == {"statusCode", "message", "name"}
        assert body["statusCode"] == self.status
        assert self.headers["content-type"] == "application/json; charset=utf-8"
        return self.status, body["name"]


class Client:
    """Calls with one API key. Transport errors are urllib3's own."""

    def __init__(self, url: str, api_key: str | None = "re_sandbox") -> None:
        self._url = url
        self._api_key = api_key
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(60))

    def call(
        self, method: str, path: str, body: bytes | None = None, **headers: str | None
    ) -> Reply:
        """One call; headers as keywords, `_` for `-`; None leaves one out."""
        sent: dict[str, str] = {"User-Agent": "tests"}
        if self._api_key is not None:
            sent["Authorization"] = f"Bearer {self._api_key}"
        for name, value in headers.items():
            if value is None:
                sent.pop(name.replace("_", "-"), None)
                # urllib3 would send one of its own.
                if name == "User_Agent":
                    sent["User-Agent"] = urllib3.util.SKIP_HEADER
            else:
                sent[name.replace("_", "-")] = value
        response = self._pool.request(method, self._url + path, body=body, headers=sent)
        return Reply(
            response.status,
            response.data,
            {name.lower(): v for name, v in response.headers.items()},
        )

    def post(self, path: str, body: object, **headers: str) -> Reply:
        """A call with a JSON body."""
        return self.call("POST", path, orjson.dumps(body), **headers)

    def send(
        self,
        mails: Sequence[object] | Mapping[str, object],
        *,
        key: str | None = None,
        permissive: bool = False,
    ) -> Reply:
        """`POST /emails/batch`."""
        headers: dict[str, str | None] = {}
        if key is not None:
            headers["Idempotency_Key"] = key
        if permissive:
            headers["x_batch_validation"] = "permissive"
        return self.call("POST", "/emails/batch", orjson.dumps(mails), **headers)


def wait_until(condition: Callable[[], bool], deadline_s: float = 30.0) -> None:
    """Wait for a condition, and fail when it does not come true in time."""
    until = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < until, "the condition did not come true"
        time.sleep(0.005)

"""The sandbox as a process of its own: killing workers does not harm what it counted."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Self

import orjson
import urllib3

from streamer.sandbox.config import DEFAULT_KEY, DEFAULT_LIMIT, AccountSpec, Config
from streamer.sandbox.faults import Faults, Play
from streamer.sandbox.recorder import Acceptance, Call, Stats
from streamer.sandbox.suppressions import Origin

_PATIENCE_S = 30.0
_GRACE_S = 5.0


class SandboxError(RuntimeError):
    """The sandbox did not start, or refused an order."""


class SandboxProcess:
    """`with SandboxProcess(limit=10, latency_ms=60) as sandbox:` on a free port.

    An order is in force when its method returns. The child ends with the `with` block, and when
    this process dies, however that happens. May be used from several threads.

    `limit` and `latency_ms` are short for the one default account (key `re_sandbox`) and for
    `faults`; `limit` says nothing about `accounts` that are given.
    """

    def __init__(
        self,
        *,
        limit: int | None = DEFAULT_LIMIT,
        latency_ms: float = 0,
        accounts: Sequence[AccountSpec] = (),
        faults: Faults | None = None,
        port: int = 0,
        seed: int = 0,
        count_addresses: bool = True,
        keep_acceptances: bool = True,
        keep_mails: int = 1000,
    ) -> None:
        given = faults if faults is not None else Faults()
        if latency_ms:
            given = given.model_copy(update={"latency_ms": latency_ms})
        self.config = Config(
            port=port,
            accounts=tuple(accounts)
            or (AccountSpec(name="default", keys=(DEFAULT_KEY,), limit=limit),),
            faults=given,
            seed=seed,
            count_addresses=count_addresses,
            keep_acceptances=keep_acceptances,
            keep_mails=keep_mails,
        )
        self._child: subprocess.Popen[bytes] | None = None
        self._url = ""
        self._http = urllib3.PoolManager(
            maxsize=4, retries=False, timeout=urllib3.Timeout(_PATIENCE_S)
        )

    def start(self) -> None:
        """Start the child; returns when it listens."""
        # A session of its own: Ctrl-C at the terminal is for the parent, which then closes stdin.
        child = self._child = subprocess.Popen(
            [sys.executable, "-m", "streamer.sandbox"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(self.config.model_dump_json().encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            pass
        self._url = child.stdout.readline().decode().strip()
        if not self._url:
            self.stop()
            raise SandboxError("the sandbox did not start: its stderr says why")

    def stop(self) -> None:
        """End the child. What it counted is gone."""
        child, self._child = self._child, None
        self._http.clear()
        if child is None:
            return
        child.terminate()
        try:
            child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it listens: what `RESEND_API_URL` should be."""
        if self._child is None:
            raise SandboxError("the sandbox is not running")
        return self._url

    @property
    def pid(self) -> int:
        """Of the child, for measurements."""
        if self._child is None:
            raise SandboxError("the sandbox is not running")
        return self._child.pid

    # Orders.

    def set_faults(self, faults: Faults, account: str | None = None) -> None:
        """Change the faults given in `faults`, for one account or for all; the others stay."""
        self._post("faults", faults=_given(faults), account=account)

    def play(self, *plays: Play, account: str | None = None) -> None:
        """Give these answers, to the letter, to the next calls of one account or of all.

        The first that is meant for a call is its answer; where none is, the sandbox gives its own.
        """
        self._post("play", plays=[_given(play) for play in plays], account=account)

    def reset_faults(self) -> None:
        """Back to the faults it was started with (none, or a latency); nothing is played."""
        self._post("reset_faults")

    def set_limit(self, limit: int | None, account: str | None = None) -> None:
        """Change the requests a second; None: unthrottled."""
        self._post("limit", limit=limit, account=account)

    def suppress(self, *emails: str, origin: Origin = "manual", account: str | None = None) -> None:
        """Put addresses onto the suppression list of one account or of all."""
        self._post("suppress", emails=emails, origin=origin, account=account)

    def advance(self, seconds: float) -> None:
        """Put the server's wall clock forward: idempotency keys age, quotas renew."""
        self._post("advance", seconds=seconds)

    def reset(self) -> None:
        """Forget mails, counts, idempotency keys, quotas, suppressions. Faults and limits stay.

        A call that is still in flight counts afterwards.
        """
        self._post("reset")

    # Questions.

    def stats(self) -> Stats:
        """Numbers since the last reset."""
        return Stats.model_validate_json(self._call("GET", "/stats"))

    def acceptances(self) -> list[Acceptance]:
        """Every address of every mail accepted, in order. Needs `keep_acceptances`."""
        return [Acceptance(**row) for row in self._rows("acceptances")]

    def calls(self) -> list[Call]:
        """Every call that is over, in the order they ended."""
        return [Call(**row) for row in self._rows("calls")]

    def repeats(self) -> list[tuple[str, str, str]]:
        """(organization, campaign, address) accepted more than once. Needs `keep_acceptances`."""
        times = Counter(acceptance[:3] for acceptance in self.acceptances())
        return [each for each, count in times.items() if count > 1]

    def _rows(self, what: str) -> Iterator[dict[str, Any]]:  # the fields of a named tuple
        return map(orjson.loads, self._call("GET", f"/_sandbox/{what}").splitlines())

    def _post(self, what: str, **arguments: object) -> None:
        self._call("POST", f"/_sandbox/{what}", orjson.dumps(arguments))

    def _call(self, method: str, path: str, body: bytes = b"") -> bytes:
        response = self._http.request(method, self.url + path, body=body)
        if response.status != 200:
            raise SandboxError(f"{method} {path}: {response.status} {response.data.decode()}")
        return response.data


def _given(order: Faults | Play) -> dict[str, object]:
    """The fields that were given."""
    return order.model_dump(mode="json", exclude_unset=True)

"""A local fake of Resend for demos, tests and benchmarks. It sends no mail.

    with SandboxProcess(limit=10, latency_ms=60) as sandbox:
        ...                                     # RESEND_API_URL = sandbox.url, key re_sandbox
        sandbox.set_faults(Faults(error_after_percent=20))
        sandbox.set_faults(Faults(outage="unavailable"), account="default")
        sandbox.play(Play(status=400, body="API key is invalid", times=3))
        sandbox.reset_faults()
        assert sandbox.stats().accepted_twice == 0

Contents:

- starting: `SandboxProcess` (a separate process, for tests and benchmarks) and `serve` (for the
  command line), configured by `Config` and `AccountSpec`
- injecting faults: `Faults`, with one field per fault, or `Play`, which defines a whole response
- inspecting: `Stats`, `Acceptance`, `Call`
- errors: `SandboxError`

The HTTP server implements Resend's `POST /emails`, `POST /emails/batch`, `GET /emails/ID` (the
latest mails only), `GET /domains`, `GET /api-keys`, and `/suppressions` with all paths below it.
In addition, without an API key: `GET /` and `GET /mails/ID` (web pages), `GET /stats`,
`GET /_sandbox/acceptances|calls` (JSON lines), and
`POST /_sandbox/faults|play|limit|suppress|advance|reset_faults|reset` (JSON; in effect once the
response arrives).
"""

from streamer.sandbox.config import (
    DEFAULT_KEY,
    DEFAULT_LIMIT,
    DEFAULT_WEBHOOK_SECRET,
    AccountSpec,
    Config,
)
from streamer.sandbox.faults import Faults, Play
from streamer.sandbox.process import SandboxError, SandboxProcess
from streamer.sandbox.recorder import Acceptance, AccountStats, Call, Stats
from streamer.sandbox.server import serve

__all__ = [
    "DEFAULT_KEY",
    "DEFAULT_LIMIT",
    "DEFAULT_WEBHOOK_SECRET",
    "Acceptance",
    "AccountSpec",
    "AccountStats",
    "Call",
    "Config",
    "Faults",
    "Play",
    "SandboxError",
    "SandboxProcess",
    "Stats",
    "serve",
]

"""A stand-in for Resend, for trials, tests and measurements. It sends nothing to anyone.

    with SandboxProcess(limit=10, latency_ms=60) as sandbox:
        ...                                     # RESEND_API_URL = sandbox.url, key re_sandbox
        sandbox.set_faults(Faults(error_after_percent=20))
        sandbox.set_faults(Faults(outage="unavailable"), account="default")
        sandbox.play(Play(status=400, body="API key is invalid", times=3))
        sandbox.reset_faults()
        assert sandbox.stats().accepted_twice == 0

The contents, by what you want to do:

- start one: `SandboxProcess` (a process of its own, for tests and the bench), `serve` (the command
  line); with `AccountSpec`, `Config`
- make trouble: `Faults`, one field each, or `Play`, an answer to the letter
- ask what happened: `Stats`, `Acceptance`, `Call`
- a failure of its own: `SandboxError`

Over HTTP it answers as Resend does to `POST /emails`, `POST /emails/batch`, `GET /emails/ID` (of
the latest mails), `GET /domains`, `GET /api-keys`, and `/suppressions` with all that is below it.
Beside that, without a key: `GET /` and `GET /mails/ID` (pages), `GET /stats`,
`GET /_sandbox/acceptances|calls` (JSON lines), and
`POST /_sandbox/faults|play|limit|suppress|advance|reset_faults|reset` (JSON, in force when it
answers).
"""

from streamer.sandbox.config import DEFAULT_KEY, DEFAULT_LIMIT, AccountSpec, Config
from streamer.sandbox.faults import Faults, Play
from streamer.sandbox.process import SandboxError, SandboxProcess
from streamer.sandbox.recorder import Acceptance, AccountStats, Call, Stats
from streamer.sandbox.server import serve

__all__ = [
    "DEFAULT_KEY",
    "DEFAULT_LIMIT",
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

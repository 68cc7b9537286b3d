"""Stand-ins in memory for what a worker talks to: Redis, Resend and the clock.

The suites of `tests.contracts` run over each of them and over the real one, so that they behave
alike. A stand-in of a class that is used as a whole derives from it; where a module needs only a
part, it names that part as a protocol.
"""

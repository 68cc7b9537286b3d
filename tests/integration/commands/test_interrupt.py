"""Ctrl-C: each command that waits ends at once, with one exit code and no traceback."""

import signal

from tests.kit.operator import CommandRunner


def test_ctrl_c_gives_one_exit_code(operator: CommandRunner) -> None:
    operator.ready()
    for words in (
        ("watch",),
        ("watch", operator.campaign),
        ("progress", operator.campaign, "--wait"),
        ("outcomes", operator.campaign, "--follow"),
    ):
        process = operator.start(*words)
        streams = {"progress": process.stderr}
        stream = streams.get(words[0], process.stdout)
        assert stream is not None
        first = stream.readline()  # the command is at work
        assert first, words
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
        assert process.returncode == 130, (words, output, errors)
        assert b"Traceback" not in errors, words

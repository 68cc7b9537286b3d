"""Finding free ports, and telling them from those in use."""

import socket

from streamer.stack.ports import free_port, port_answers, port_is_free


def test_a_port_in_use() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not port_is_free(port)
        assert port_answers(port)
    assert port_is_free(port)
    assert not port_answers(port)


def test_free_ports_differ() -> None:
    ports = {free_port() for _ in range(50)}
    assert len(ports) == 50

"""The relay through which a process's connections go: what passes, and what is said when one ends."""

import socket
import threading

import pytest

from dear_jax.parallel import connection
from dear_jax.parallel.connection import HERE, Relay


@pytest.fixture
def service():
    """A server that answers with what it is sent, and its port."""
    server = socket.create_server((HERE, 0))
    connections = []

    def serve():
        while True:
            try:
                one, _ = server.accept()
            except OSError:
                return
            connections.append(one)
            threading.Thread(target=echo, args=(one,), daemon=True).start()

    def echo(one):
        try:
            while piece := one.recv(1000):
                one.sendall(piece)
        except OSError:
            pass

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1], connections
    for one in (*connections, server):
        one.close()


@pytest.fixture
def lost():
    """What was said, and a semaphore that counts it."""
    said, count = [], threading.Semaphore(0)

    def note(why):
        said.append(why)
        count.release()

    return said, count, note


def exchange(relay, text=b"hello"):
    host, _, port = relay.address.rpartition(":")
    client = socket.create_connection((host, int(port)), 10)
    client.sendall(text)
    assert client.recv(1000) == text
    return client


@pytest.mark.parametrize("end", ["client", "service"])
@pytest.mark.parametrize("port", [True, False])
def test_the_end_of_a_connection_is_noticed_at_once(service, lost, end, port):
    said, count, note = lost
    relay = Relay((HERE, service[0]), note, connection.free_port() if port else None)
    client = exchange(relay)
    assert not said
    if end == "client":
        client.close()
    else:
        service[1][0].shutdown(socket.SHUT_RDWR)
    assert count.acquire(timeout=10)
    assert "connection has ended" in said[0]
    client.close()


def test_a_silent_machine_is_noticed(service, lost, monkeypatch):
    monkeypatch.setattr(connection, "SILENCE_SECONDS", 0.2)
    said, count, note = lost
    client = exchange(Relay((HERE, service[0]), note))
    assert count.acquire(timeout=10)
    assert said == ["no word for 0.2 seconds"]
    client.close()


def test_after_the_end_of_the_job_connections_may_end(service, lost):
    said, count, note = lost
    relay = Relay((HERE, service[0]), note)
    client = exchange(relay)
    relay.close()
    client.close()
    assert not count.acquire(timeout=0.3)
    assert not said


def test_a_connection_that_was_never_answered_is_tried_again(lost):
    said, _, note = lost
    port = connection.free_port()
    relay = Relay((HERE, port), note)
    host, _, own = relay.address.rpartition(":")
    with socket.create_connection((host, int(own)), 10) as client:
        assert client.recv(10) == b""  # nobody is there yet
    with socket.create_server((HERE, port)) as server, socket.create_connection((host, int(own)), 10) as client:
        client.sendall(b"hello")
        one, _ = server.accept()
        assert one.recv(10) == b"hello"
        one.close()
    assert not said

"""How a lost process is noticed at once: JAX's connections to process 0 pass through here, and this watches them.

Every process but the first speaks to JAX's coordination service, in process 0, over one connection of HTTP/2, on which
heartbeats never stop. Where that connection ends, JAX aborts with a stack trace, from a thread that no Python code can
answer. So process 0 takes the connections itself and hands them on to the service, which listens on this machine alone,
and each other process hands its own on to process 0. The operating system closes a dead process's end of a connection,
whatever it was doing: both sides then leave in their own words, before JAX knows of it, and process 0's end tells all
others.
"""

import contextlib
import socket
import threading
from collections.abc import Callable

HERE = "127.0.0.1"
SILENCE_SECONDS = 100  # without a word from a machine that may have lost its power; heartbeats come every 75
CONNECT_SECONDS = 5
PIECE = 1 << 16  # bytes read at a time


class Relay:
    """Hands connections on to an address, and says when one of them ends before `close` was called."""

    def __init__(self, target: tuple[str, int], lost: Callable[[str], None], port: int | None = None) -> None:
        """Begin to listen.

        Args:
            target: host and port that connections are handed on to.
            lost: called, in a thread of the relay, with what happened; it ends the process.
            port: to listen on, for all machines; None: any that is free, for this machine alone.

        Raises:
            OSError: the port is taken.
        """
        self._target, self._lost, self._closing = target, lost, False
        # The end that another machine is behind: it may be silent for `SILENCE_SECONDS` and no longer.
        self._far_is_target = port is None
        if port is None:
            self._server = socket.create_server((HERE, 0))
        elif socket.has_dualstack_ipv6():
            self._server = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            self._server = socket.create_server(("", port))
        _in_thread(self._accept)

    @property
    def address(self) -> str:
        """Where this listens, of this machine."""
        return f"{HERE}:{self._server.getsockname()[1]}"

    def close(self) -> None:
        """From now on connections may end: the job does."""
        self._closing = True

    def _accept(self) -> None:
        while True:
            near, _ = self._server.accept()
            try:
                far = socket.create_connection(self._target, CONNECT_SECONDS)
            except OSError:  # not there yet: JAX tries again
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.settimeout(None)
            (far if self._far_is_target else near).settimeout(SILENCE_SECONDS)
            answered = threading.Event()  # a connection that was never answered is JAX's to try again
            _in_thread(self._hand_on, near, far, answered, False)
            _in_thread(self._hand_on, far, near, answered, True)

    def _hand_on(self, source: socket.socket, target: socket.socket, answered: threading.Event, back: bool) -> None:
        why = "its connection has ended"
        try:
            while piece := source.recv(PIECE):
                target.sendall(piece)
                if back:
                    answered.set()
        except TimeoutError:
            why = f"no word for {SILENCE_SECONDS} seconds"
        except OSError as error:
            why = error.strerror or why
        if answered.is_set() and not self._closing:
            self._lost(why)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    """A port that nobody on this machine listens on."""
    with socket.create_server((HERE, 0)) as server:
        return int(server.getsockname()[1])


def _in_thread(action: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=action, args=arguments, daemon=True).start()

"""One command as a child process that is interrupted when this process is, and waited for."""

import signal
import subprocess
from collections.abc import Sequence
from types import FrameType
from typing import IO

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """A signal came; the command has been told and has ended."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def run(command: Sequence[str], output: IO[str]) -> int:
    """The exit code of a command, negative when a signal ended it; its output goes to an open file.

    The command has a process group of its own: Ctrl-C in a terminal reaches it once, through this process.

    Raises:
        Interrupted: this process got a signal, or the command ended as after one.
    """
    received: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for child in children:
            child.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    previous = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        children.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, process_group=0))
        if received:  # before there was anybody to tell
            children[0].terminate()
        code = children[0].wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received:
        raise Interrupted(received[0])
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise Interrupted(code - 128)
    return code

"""One command as a child process that is interrupted when this process is, and waited for."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType
from typing import IO

# Asks Linux for a signal when the parent dies (PR_SET_PDEATHSIG of linux/prctl.h is 1), and becomes the command.
TELL = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, {signal.SIGTERM.value})
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """A signal came; the command has been told and has ended."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def run(command: Sequence[str], output: IO[str]) -> int:
    """The exit code of a command, negative when a signal ended it; its output goes to an open file.

    The command has a process group of its own: Ctrl-C in a terminal reaches it once, through this process. On Linux it
    is stopped, as by SIGTERM, where this process is killed.

    Raises:
        Interrupted: this process got a signal, or the command ended as after one.
    """
    told = [sys.executable, "-c", TELL, str(os.getpid())] if sys.platform.startswith("linux") else []
    received: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for child in children:
            child.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    previous = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        children.append(
            subprocess.Popen([*told, *command], stdout=output, stderr=subprocess.STDOUT, process_group=0)
        )
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

"""What reads the screen may go away or take few characters: the work goes on."""

import os
import subprocess
import sys

import pytest

from tests.repository import REPOSITORY

WORK = """
import sys
from dear_jax.files import output
output.make_lasting()
for number in range(20_000):
    print("caf\\u00e9 \\u732b", number)
    print("caf\\u00e9 \\udce9", file=sys.stderr)
open(sys.argv[1], "w").write("done")
"""


@pytest.mark.parametrize("together", [True, False])
def test_a_closed_pipe(tmp_path, together):
    command = [sys.executable, "-c", WORK, str(tmp_path / "end")]
    errors, pipe = (tmp_path / "errors").open("w"), subprocess.PIPE
    with errors, subprocess.Popen(
        command, cwd=REPOSITORY, stdout=pipe, stderr=subprocess.STDOUT if together else errors
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
    assert (tmp_path / "end").read_text() == "done"
    assert together or "Error" not in (tmp_path / "errors").read_text()


def test_nobody_listens_from_the_start(tmp_path):
    command = f'"{sys.executable}" -c \'{WORK}\' "{tmp_path}/end" >&- 2>&-'
    assert subprocess.run(command, cwd=REPOSITORY, shell=True, check=False).returncode == 0
    assert (tmp_path / "end").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_log_on_a_full_disk(tmp_path):
    with open("/dev/full", "w") as log:
        subprocess.run([sys.executable, "-c", WORK, str(tmp_path / "end")], cwd=REPOSITORY, stdout=log, check=True)


@pytest.mark.parametrize(("encoding", "first"), [("ascii", rb"caf\xe9 \u732b 0"), ("cp1252", b"caf\xe9 \\u732b 0")])
def test_an_encoding_without_some_characters(tmp_path, encoding, first):
    settings = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", WORK, str(tmp_path / "end")]
    run = subprocess.run(command, cwd=REPOSITORY, env=settings, capture_output=True, check=True)
    assert run.stdout.splitlines()[0] == first

"""Two processes on this machine stand for two hosts."""

import json
import os
import socket
import subprocess
import sys

import pytest

from dear_jax.parallel import agreement
from tests.repository import REPOSITORY

HOST = """
import json, sys
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
address, number, facts = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
jax.distributed.initialize(address, num_processes=2, process_id=number)
from dear_jax.parallel import agreement
from dear_jax.errors import UserError
try:
    agreement.check_alike(facts["config"], facts["data"], facts["backbone"], facts["version"])
    print("alike")
except UserError as error:
    print(error)
"""
FACTS = {
    "config": {"seeds": [1, 2], "data": {"shots": 16}},
    "data": {"name": "dtd", "images": {"train": 2820}, "listing_sha256": "aa"},
    "backbone": "ce9ea1d8",
    "version": "0.1.0",
}


def start_two(first: dict, second: dict) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, address, str(number), json.dumps(facts)],
            cwd=REPOSITORY,
            env=environment | {"JAX_PLATFORMS": "cpu"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number, facts in enumerate((first, second))
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert all(process.returncode == 0 for process in processes), outputs
    return [out.strip().splitlines()[-1] for out, _ in outputs]  # Gloo prints before


@pytest.mark.slow
def test_two_processes_that_see_the_same():
    assert start_two(FACTS, FACTS) == ["alike", "alike"]


@pytest.mark.slow
def test_two_processes_that_see_different_things_both_say_what():
    other = {
        "config": {"seeds": [1, 2, 3], "data": {"shots": 16}, "new": True},
        "data": {"name": "dtd", "images": {"train": 2819}, "listing_sha256": "bb"},
        "backbone": "0123abcd",
        "version": "0.2.0",
    }
    first, second = start_two(FACTS, other)
    assert first == second
    assert first == (
        "The hosts of this job do not agree: "
        'version is "0.1.0" on host 0, "0.2.0" on host 1; '
        'backbone is "ce9ea1d8" on host 0, "0123abcd" on host 1; '
        "config.seeds is [1, 2] on host 0, [1, 2, 3] on host 1; "
        "data.images.train is 2820 on host 0, 2819 on host 1; "
        'data.listing_sha256 is "aa" on host 0, "bb" on host 1; '
        "config.new is absent on host 0, true on host 1. "
        "Give every host the same command, the same version of this package and the same files, then start all of "
        "them again."
    )


def test_one_process_agrees_with_itself():
    agreement.check_alike({"seeds": (1,)}, {"name": "dtd"}, "ce9ea1d8")


def test_many_hosts_and_long_values_are_shortened():
    facts = [{"names": ["a" * 100]}] * 20 + [{"names": []}]
    (text,) = agreement.differences(facts)
    assert text == (
        f'names is ["{"a" * 58}... (104 characters) on host 0, 1, 2, 3, 4, 5, 6, 7 and 12 more, [] on host 20'
    )

"""Compiled programs are kept for later starts, in the user's folder for this kind of processor, and within a limit."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from dear_jax import jobs, session
from dear_jax.errors import UserError
from dear_jax.files import program_cache
from dear_jax.setup import config_files, values
from tests.repository import REPOSITORY


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user's cache folder with nothing in it, and JAX as it is without a word about a cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with program_cache.kept():
        jax.config.update("jax_compilation_cache_dir", None)
        yield tmp_path / "home"


@pytest.fixture
def every_program(monkeypatch):
    monkeypatch.setattr(program_cache, "LEAST_SECONDS", 0.0)


def compile_anew(size: int) -> None:
    """A program that no earlier call has compiled in this process."""
    jax.clear_caches()
    jax.jit(lambda x: (x @ x).sum()).lower(jnp.zeros((size, size))).compile()


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*-cache"))


def test_the_default_is_the_users_folder_with_a_limit(home, every_program, capsys):
    program_cache.use("auto")
    folder = program_cache.cache_folder()
    assert folder.parent == home / "dear_jax" / "programs"
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert jax.config.jax_compilation_cache_max_size == program_cache.MOST_BYTES
    compile_anew(7)
    assert any("lambda" in name for name in entries(folder))
    assert capsys.readouterr().out == ""


def test_the_oldest_programs_go(every_program, monkeypatch):
    program_cache.use("auto")
    folder = program_cache.cache_folder()
    compile_anew(7)
    size = sum(path.stat().st_size for path in folder.glob("*-cache"))
    with program_cache.kept():
        monkeypatch.setattr(program_cache, "MOST_BYTES", 2 * size)
        jax.config.update("jax_compilation_cache_dir", None)
        program_cache.use("auto")
        for number in range(8, 14):
            compile_anew(number)
    assert sum(path.stat().st_size for path in folder.glob("*-cache")) <= 2 * size


def test_what_a_killed_process_left_is_removed_and_compiled_anew(every_program):
    program_cache.use("auto")
    folder = program_cache.cache_folder()
    compile_anew(7)
    (torn,) = (path for path in folder.glob("*lambda*-cache"))
    content = torn.read_bytes()
    torn.write_bytes(content[:100])
    Path(str(torn).replace("-cache", "-atime")).unlink()
    with program_cache.kept():
        jax.config.update("jax_compilation_cache_dir", None)
        program_cache.use("auto")
        assert not torn.exists()
        compile_anew(7)
        assert torn.stat().st_size == pytest.approx(len(content), rel=0.2)


def test_a_damaged_entry_is_no_word_to_a_user(every_program, recwarn):
    program_cache.use("auto")
    compile_anew(7)
    for path in program_cache.cache_folder().glob("*-cache"):
        path.write_bytes(b"damaged")
    compile_anew(7)
    assert not recwarn.list


@pytest.mark.parametrize("place", ["none", ""])
def test_none_is_kept_if_so_asked(home, monkeypatch, place):
    jax.config.update("jax_compilation_cache_dir", str(home / "jaxs_own"))
    program_cache.use(place)
    assert jax.config.jax_compilation_cache_dir is None
    assert not home.exists()


def test_where_jax_was_told_to_keep_them_they_are_kept(home, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jaxs_own"))
    program_cache.use("auto")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "jaxs_own")
    assert not home.exists()


def test_another_folder(tmp_path):
    program_cache.use(str(tmp_path / "a" / "b"))
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"config\.compute\.compilation_cache: cannot make the folder .*file/b"):
        program_cache.use(str(tmp_path / "file" / "b"))


def test_a_folder_that_cannot_be_written_is_said_and_done_without(home, capsys):
    home.write_text("no folder")
    program_cache.use("auto")
    said = capsys.readouterr().out
    assert said.startswith(f"Compiled programs are not kept for later starts: {home}/dear_jax/programs/")
    assert said.count("\n") == 1
    assert jax.config.jax_compilation_cache_dir is None
    compile_anew(7)


def test_no_home_folder_makes_none_here(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    program_cache.use("auto")
    assert "there is no home folder" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_each_kind_of_processor_has_a_folder_and_few_are_kept(home, monkeypatch, tmp_path):
    monkeypatch.setattr(program_cache, "CPU_INFO", tmp_path / "cpuinfo")
    names = []
    for number in range(6):
        about = f"model name: A\nflags: sse{number}\ncpu MHz: {number}"
        (tmp_path / "cpuinfo").write_text(f"processor: 0\n{about}\n\nprocessor: 1\n{about}")
        jax.config.update("jax_compilation_cache_dir", None)
        program_cache.use("auto")
        names.append(program_cache.cache_folder().name)
        os.utime(program_cache.cache_folder(), (number, number))
    assert len(set(names)) == 6
    assert {path.name for path in (home / "dear_jax" / "programs").iterdir()} == set(names[-program_cache.KINDS :])
    (tmp_path / "cpuinfo").write_text("processor: 7\nmodel name: A\nflags: sse5\ncpu MHz: 1234")
    assert program_cache.cache_folder().name == names[-1]


def test_a_python_program_gets_its_own_cache_back(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "its_own"))
    least = jax.config.jax_persistent_cache_min_compile_time_secs
    with session.settings_kept():
        program_cache.use(str(tmp_path / "ours"))
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "its_own")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == least


@pytest.mark.parametrize(("job", "kept"), [("train", True), ("compile", False)])
def test_a_job_that_measures_compiling_takes_no_earlier_program(job, kept):
    config = values.set_all(config_files.load("base2new"), {"job": job, "compute.distributed": "false"})
    assert jobs.find(job).measures_compiling is not kept
    with session.settings_kept():
        session.set_up(config)
        assert bool(jax.config.jax_compilation_cache_dir) is kept


TWO = """
import jax, jax.numpy as jnp
from dear_jax.files import program_cache
program_cache.LEAST_SECONDS = 0.0
program_cache.use("auto")
for size in range(2, 12):
    jax.jit(lambda x: x @ x + 1)(jnp.ones((size, size)))
"""


def test_processes_share_it(home):
    command = [sys.executable, "-c", TWO]
    started = [subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in started:
        _, errors = process.communicate(timeout=200)
        assert (process.returncode, errors) == (0, "")
    folder = program_cache.cache_folder()
    assert len([name for name in entries(folder) if "lambda" in name]) == 10
    assert len(entries(folder)) == len(list(folder.glob("*-atime")))

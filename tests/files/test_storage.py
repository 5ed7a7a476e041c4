"""Paths, reading, writing and locks in a bucket."""

import json
import pickle
import re
import subprocess
import sys

import fsspec
import numpy as np
import pytest
from etils import epath

from dear_jax.errors import UserError
from dear_jax.files import storage
from dear_jax.files.local_copy import LocalCopy, local_folder, upload
from dear_jax.files.metrics_file import MetricsFile
from dear_jax.files.workdir import Workdir
from tests.repository import REPOSITORY


def fill(folder, **files):
    for name, text in files.items():
        (folder / name.replace("__", "/").replace("_png", ".png")).write_text(text)


def test_entries_and_files_below(bucket):
    fill(bucket / "a", b_png="1", c__d_png="2", c__e__f_png="3")
    fsspec.filesystem("gcs").pipe_file(f"{bucket}/a/empty/", b"")  # as the console of the cloud makes a folder
    assert storage.entries(bucket / "a") == (["c", "empty"], ["b.png"])
    assert storage.entries(bucket / "a" / "empty") == ([], [])
    assert storage.files_below(bucket / "a") == ["b.png", "c/d.png", "c/e/f.png"]
    with pytest.raises(FileNotFoundError):
        storage.entries(bucket / "b")
    assert storage.files_below(bucket / "b") == []


def test_bytes_come_back_as_written_and_nothing_is_remembered(bucket):
    data = np.random.default_rng(0).bytes(1000) + b"\r\n\0"
    storage.write_atomically(bucket / "file", data)
    assert storage.read_bytes(bucket / "file") == data
    storage.entries(bucket)
    writer = fsspec.filesystem("gcs", skip_instance_cache=True)  # stands for another host
    writer.pipe_file(f"{bucket}/other", b"")
    assert storage.entries(bucket)[1] == ["file", "other"]


def test_paths(bucket):
    assert storage.absolute(bucket / "run") == bucket / "run"
    assert storage.to_path(str(bucket / "run")) == bucket / "run"
    assert pickle.loads(pickle.dumps(bucket / "run")) == bucket / "run"
    with pytest.raises(UserError, match=r"s3://b/run: expected a path on this machine, or in a bucket as gs://"):
        storage.to_path("s3://b/run")


def test_a_bucket_that_is_not_there(bucket):
    with pytest.raises(UserError, match=r"gs://nowhere: the bucket cannot be read \(there is no such bucket\)"):
        storage.to_path("gs://nowhere/run")


def test_without_gcsfs_it_is_said_before_anything_is_done():
    code = (
        "import sys; sys.modules['gcsfs'] = None; from dear_jax import main; "
        "sys.exit(main.main(['--config=configs/base2new.py', '--workdir=gs://bucket/run']))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=100)
    assert run.returncode == 2
    assert re.fullmatch(
        r"error: gs://bucket: reading a bucket needs gcsfs \(.*\)\. Install it by pip install -e '\.\[gcs\]'\.\n",
        run.stderr,
    )


def test_rows_of_metrics_wait_for_a_bucket(bucket, monkeypatch):
    path = bucket / "metrics.jsonl"
    metrics = MetricsFile(path)
    for step in range(1, 5):
        metrics.append({"step": step})
    assert path.read_text() == '{"step": 1}\n'  # the first at once, so that a wrong bucket is known at once
    metrics.flush()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]
    again = MetricsFile(path)
    again.trim(2)
    again.append({"step": 3})
    again.flush()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_a_second_process_is_told_of_the_first(bucket, capsys):
    with Workdir(bucket / "run") as files:
        assert capsys.readouterr().out == ""
        Workdir(bucket / "run").close()
        assert "was opened by process" in capsys.readouterr().out
        files.write_json("config.json", {"a": 1})
        assert files.read_json("config.json") == {"a": 1}
    with Workdir(bucket / "run"):
        assert capsys.readouterr().out == ""


def test_copies_are_kept_until_a_file_changes(bucket, capsys):
    fill(bucket / "clip", config="1", weights="22")
    copy = LocalCopy(bucket / "clip")
    assert copy.names == {"config", "weights"}
    copy.fetch(["config"])
    assert f"Copying 1 file (0.0 MB) from {bucket}/clip to {copy.folder}" in capsys.readouterr().out
    assert storage.entries(copy.folder) == ([], ["config"])
    LocalCopy(bucket / "clip").fetch(["config"])
    assert capsys.readouterr().out == ""
    fill(bucket / "clip", config="3")
    changed = LocalCopy(bucket / "clip")
    changed.fetch(["config", "weights"])
    assert (changed.folder / "config").read_text() == "3"
    assert LocalCopy(bucket / "none").names == frozenset()


def test_a_copy_without_space_is_refused(bucket, monkeypatch):
    fill(bucket / "clip", weights="22")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1}))
    with pytest.raises(UserError, match=r"0\.0 GB have to be copied to .*no space for them. Set XDG_CACHE_HOME"):
        LocalCopy(bucket / "clip").fetch(["weights"])


def test_folders_of_this_machine(bucket, tmp_path):
    assert local_folder(epath.Path(tmp_path)) == epath.Path(tmp_path)
    local = local_folder(bucket / "run")
    assert local.is_dir()
    (local / "a").mkdir(exist_ok=True)
    (local / "a" / "b").write_text("c")
    upload(local, bucket / "run")
    assert (bucket / "run" / "a" / "b").read_text() == "c"


def test_a_folder_moves(bucket):
    fill(bucket / "7", a__b="1", c="2")
    storage.move(bucket / "7", bucket / "damaged" / "7")
    assert storage.files_below(bucket) == ["damaged/7/a/b", "damaged/7/c"]
    (bucket / "damaged" / "7").rmtree(missing_ok=True)
    (bucket / "damaged" / "7").rmtree(missing_ok=True)
    assert storage.files_below(bucket) == []

"""What of a run may be shared: names that are the same everywhere, and no place of one machine."""

import pytest

from dear_jax.setup import sharing

PUBLIC = ("embedded", "openai/clip-vit-base-patch16", "ViT-B/16", "hf://me/run", "me/data:plain@v1")
LOCAL = ("/srv/clip", "~/clip", "~someone/clip", "gs://bucket/clip", "data", "a/b/c", "./me/clip", "C:\\clip\\a")


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_stay(name):
    assert sharing.is_public(name)
    assert sharing.backbone(name) == name
    assert sharing.config({"backbone": name, "data": {"root": name}}) == {"backbone": name, "data": {"root": name}}


@pytest.mark.parametrize("name", LOCAL)
def test_places_do_not(name):
    assert not sharing.is_public(name)
    written = {"backbone": name, "mask": {"file": name}, "data": {"root": name}}
    written["variants"] = f"a: dear.mask.file={name}"
    shared = sharing.config(written)
    assert (shared["backbone"], shared["mask"]["file"], shared["data"]["root"]) == ("LOCAL",) * 3
    if name.startswith(("/", "~", "C:")):
        assert shared["variants"] == "a: dear.mask.file=LOCAL"


def test_a_folder_here_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sharing.is_public("me/clip")
    (tmp_path / "me" / "clip").mkdir(parents=True)
    assert not sharing.is_public("me/clip")
    assert sharing.backbone("me/clip") == "clip"


def test_other_settings_stay():
    config = {"classes": "cat,dog", "data": {"template": "a photo of a {} and/or a b/c/d."}, "seeds": [1, 2], "a": {}}
    assert sharing.config(config | {"data": config["data"] | {"workers": 4}}) == config


def test_texts_lose_the_places_and_nothing_else(tmp_path):
    config = {"data": {"root": str(tmp_path), "splits": "gs://bucket/x"}, "dataset": "world"}
    named = sharing.places(config, str(tmp_path / "run"))
    value = {
        "skipped": [f"{tmp_path}/a.png is empty", f"{tmp_path}2/a.png", "gs://bucket/x/y", "/home/else/b.png."],
        "classes": ["/c/church/outdoor", "home/office"],
        "mean": 1.5,
        "run": str(tmp_path / "run"),
    }
    assert sharing.texts(value, named) == {
        "skipped": ["LOCAL/a.png is empty", f"{tmp_path}2/a.png", "LOCAL/y", "LOCAL"],
        "classes": value["classes"],
        "mean": 1.5,
        "run": "LOCAL",
    }

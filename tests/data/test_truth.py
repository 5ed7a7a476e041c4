"""What the folders of images say that they show."""

from dear_jax.data import truth


def test_the_first_folder_that_is_called_like_a_class(tmp_path):
    top = tmp_path / "dog" / "photos"  # what lies above says nothing
    names = [str(top / name) for name in ("1.jpg", "Sea_Lion/2.jpg", "test/dog/sea lion/3.jpg", "dogs/4.jpg")]
    assert truth.of_folders(names, top, ["dog", "sea lion"]) == ["", "sea lion", "dog", ""]
    assert truth.of_folders(["cat/1.jpg", "./cat/2.jpg"], ".", ["cat"]) == ["cat", "cat"]


def test_folders_are_renamed_as_in_training(tmp_path):
    (tmp_path / "classnames.txt").write_text("n01\tgolden retriever\n")
    names = [str(tmp_path / name) for name in ("n01/a.jpg", "n02/a.jpg")]
    assert truth.of_folders(names, tmp_path, ["golden retriever", "n02"]) == ["golden retriever", "n02"]

"""ImageNet and its variants: a folder per class, named by WordNet id or by number; names in classnames.txt.

In: a row of the table and the folder. Out: lists of files. Folders and files are sorted: CoOp's tools sort the
folders, but take the files as the file system lists them, so that their few-shot draws of ImageNet are no others'.
"""

from collections.abc import Mapping, Sequence

from etils import epath

from dear_jax.data.class_folders import check_filled, class_folders, image_files
from dear_jax.data.datasets import DatasetRow
from dear_jax.data.listing import Listing
from dear_jax.errors import UserError
from dear_jax.files import storage

NAMES_FILE = "classnames.txt"


def list_folders(row: DatasetRow, folder: epath.Path, name_folders: Sequence[epath.Path]) -> Listing:
    """The files of a row whose layout is `wnids` or `indices`; paths are relative to `folder`."""
    names = read_names(name_folders)
    train, *test = [_list_classes(row, folder, part, names) for part in row.image_folder]
    if not test:
        return {"train": [], "val": [], "test": train}
    return {"train": train, "val": test[0], "test": test[0]}


def read_names(folders: Sequence[epath.Path]) -> dict[str, str]:
    """WordNet id -> readable name, in the file's order; the first folder that has the file counts."""
    for folder in folders:
        if (folder / NAMES_FILE).is_file():
            lines = read_lines(folder / NAMES_FILE)
            pairs = [line.strip().partition(" ") for line in lines if line.strip()]
            return {wnid: name for wnid, _, name in pairs}
    places = " or ".join(str(folder / NAMES_FILE) for folder in folders)
    raise UserError(
        f"ImageNet's class names are missing: expected {places}, lines such as 'n01440764 tench'. CoOp publishes the "
        "file: follow the link in https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md."
    )


def read_lines(path: epath.Path) -> list[str]:
    """The lines of a file of class names; a mark that some editors put before UTF-8 is left out."""
    try:
        return path.read_bytes().decode("utf-8-sig").splitlines()
    except storage.failures(UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}). Save it as UTF-8 text, one class per line.") from error


def _list_classes(
    row: DatasetRow, folder: epath.Path, part: str, names: Mapping[str, str]
) -> list[tuple[str, int, str]]:
    """One part's images, class after class."""
    classes = _numbered(names) if row.layout == "indices" else _sorted_folders(folder / part, names)
    if len(classes) != row.classes:
        flat = image_files(folder / part)
        advice = (
            f"{len(flat)} images lie flat in it, such as {flat[0]}: sort them into a folder for each class, as "
            "ImageNet's valprep.sh does"
            if flat
            else "Extract the whole archive there, and take the whole classnames.txt"
        )
        raise UserError(f"{folder / part}: expected {row.classes} classes, found {len(classes)}. {advice}.")
    folders = [folder / part / class_folder for class_folder, _ in classes]
    files = {path.name: names for path, names in zip(folders, storage.in_threads(image_files, folders), strict=True)}
    check_filled(files, folder / part)
    return [
        (f"{part}/{class_folder}/{file}", label, class_name)
        for label, (class_folder, class_name) in enumerate(classes)
        for file in files[class_folder]
    ]


def _numbered(names: Mapping[str, str]) -> list[tuple[str, str]]:
    """ImageNetV2: folder i is the i-th line of classnames.txt."""
    return [(str(label), name) for label, name in enumerate(names.values())]


def _sorted_folders(folder: epath.Path, names: Mapping[str, str]) -> list[tuple[str, str]]:
    folders = class_folders(folder)
    unknown = [name for name in folders if name not in names]
    if unknown:
        raise UserError(
            f"{folder} has folders that {NAMES_FILE} does not name, such as {', '.join(unknown[:10])}; expected "
            "WordNet ids such as n01440764."
        )
    return [(name, names[name]) for name in folders]

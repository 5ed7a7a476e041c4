"""Where config files are, and what they say: those of this project by their names, a user's own by their paths.

A checkout has them in `configs/`, where users edit them; an installed package has a copy beside its modules, so that
`dear-jax --config=base2new` works in any folder.
"""

import importlib.machinery
import os
import runpy
import sys
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict

from dear_jax.errors import UserError, show

PACKAGE = "configs"  # how config files import one another
BASE = "base.py"  # which every folder of configs has
_HERE = Path(__file__).resolve().parents[1]
_OWN = (_HERE.parent / PACKAGE, _HERE / PACKAGE)  # of a checkout, of an installed package


def base() -> tuple[Path, ConfigDict]:
    """The file that has every key, and what it gives.

    Raises:
        UserError: there is none, in no folder of configs.
    """
    if not folders():
        raise UserError("There is no folder configs/ here, and none was installed: install the package anew.")
    path = folders()[0] / BASE
    return path, load(str(path))


def folders() -> list[Path]:
    """The folders of configs: of the current folder, of this checkout, of the installed package, where there are."""
    return [folder for folder in (Path(PACKAGE), *_OWN) if (folder / BASE).is_file()]


def find(name: str) -> Path:
    """The file that a name or a path means.

    Args:
        name: a path; or that of a file in `configs/`, wherever this folder is; of one that is a config of its own also
            without folder and suffix: base2new.

    Raises:
        UserError: there is none.
    """
    path = Path(os.path.expanduser(name))
    if os.path.isfile(path):
        return path
    known = names()
    if name and path.parent in (Path(), Path(PACKAGE)) and path.suffix in ("", ".py") and path.stem in known:
        return known[path.stem]
    if path == Path(PACKAGE, BASE) and folders():
        return folders()[0] / BASE
    own = ", ".join(known)
    raise UserError(f"--config: no file {show(name)}. Give one such as configs/base2new.py, or one of {own}.")


def names() -> dict[str, Path]:
    """Name -> file, of all that give a config; the current folder's before others of the same name."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("[a-z]*.py")):
            if path.name != BASE:
                found.setdefault(path.stem, path)
    return found


def load(argument: str) -> ConfigDict:
    """What `get_config` of a file returns; the text after a colon is its argument.

    Raises:
        UserError: there is no such file, or it gives no config.
    """
    name, colon, text = argument.partition(":")
    path = find(name)
    # `from configs import base` is this project's, whatever else the current folder calls so.
    beside = [path.resolve().parent] if path.resolve().parent.name == PACKAGE else []
    package = ModuleType(PACKAGE)
    package.__path__ = [str(folder.resolve()) for folder in (*beside, *folders())]
    package.__spec__ = importlib.machinery.ModuleSpec(PACKAGE, None, is_package=True)
    kept = {key: sys.modules.pop(key) for key in list(sys.modules) if key.partition(".")[0] == PACKAGE}
    sys.modules[PACKAGE] = package
    try:
        config = runpy.run_path(str(path))["get_config"](*([text] if colon else []))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"--config: cannot load {argument}: {type(error).__name__}: {error}.") from error
    finally:
        for key in [key for key in sys.modules if key.partition(".")[0] == PACKAGE]:
            del sys.modules[key]
        sys.modules.update(kept)
    if not isinstance(config, ConfigDict) or "job" not in config:
        raise UserError(f"--config: get_config() of {path} gives no ConfigDict with a `job`.")
    return config

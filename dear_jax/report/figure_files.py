"""Figures as files: a picture for the screen, and vectors for papers and slides."""

import io

import matplotlib as mpl
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dear_jax.files import storage

FORMATS = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}  # with what a file says of itself


@mpl.rc_context({"svg.hashsalt": "dear_jax"})
def save(figure: Figure, path: epath.PathLike, dpi: int = 150) -> list[epath.Path]:
    """Write a figure in every format; the files. The same figure is the same files.

    Args:
        figure: what is drawn.
        path: of the files, without their suffix.
        dpi: dots per inch of what is no vector.
    """
    FigureCanvasAgg(figure)
    path = epath.Path(path)
    files = []
    for suffix, metadata in FORMATS.items():
        content = io.BytesIO()
        figure.savefig(content, dpi=dpi, format=suffix, metadata=metadata)
        files.append(path.with_name(f"{path.name}.{suffix}"))
        storage.write(files[-1], content.getvalue())
    return files

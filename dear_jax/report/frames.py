"""Rows as a table of pandas, where it is installed: nothing else here needs it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dear_jax.errors import UserError

if TYPE_CHECKING:
    import pandas


def to_frame(rows: Sequence[Mapping[str, Any]]) -> "pandas.DataFrame":
    """The rows, with their keys as columns.

    Raises:
        UserError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise UserError(f"to_pandas needs pandas ({error}). Install it by pip install pandas.") from error
    return pandas.DataFrame(rows)

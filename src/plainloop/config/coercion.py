"""Convert the values of settings that are written in Python, as those of flags are converted."""

from types import NoneType
from typing import Any, get_args, get_origin

from cyclopts import CycloptsError, convert


def coerce(value: Any, wanted: Any) -> Any:
    """Convert a value to the type of a setting, as its flag does: "3e-5" is a number, "a.csv" a list.

    Args:
        value: of a setting.
        wanted: the type of its field, without marks.

    Raises:
        ValueError: it cannot be converted; the text is why, if anything is known.
    """
    types = get_args(wanted) or (wanted,)
    is_dict = isinstance(value, dict)
    if (value is None and NoneType in types) or (is_dict and get_origin(wanted) is dict):
        return value
    is_list = hasattr(value, "__iter__") and not isinstance(value, str)
    items = list(value) if is_list else [value]
    takes_list = any(tuple in (get_origin(one), get_origin(wanted)) for one in types)
    if is_list and takes_list and not items:
        return ()
    if is_dict or any(item is None for item in items) or (is_list and not takes_list):
        raise ValueError("")
    try:
        converted = convert(wanted, [str(item) for item in items])
    except CycloptsError as error:
        raise ValueError(str(error).splitlines()[-1]) from None
    if type(converted) is int and converted != float(value):  # it would be rounded
        raise ValueError("")
    return converted

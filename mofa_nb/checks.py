"""Guards: every message says what was expected, what came, and what to do."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

LARGEST_CLIP = (2048, 2048)  # width and height; other shapes may have as many pixels


class InputError(ValueError):
    """A user's input cannot be used; the message is one sentence with the remedy."""


def shown(value: object, limit: int = 40) -> str:
    """`value` as it may stand in a message: `repr`, cut to `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def existing_file(path: str | os.PathLike, what: str) -> Path:
    """`path` as a Path; InputError when there is no such file, or a folder.

    Args:
        what: names it in the message, for example "video".
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{what} {path} is a folder: name a file")
    if not path.is_file():
        raise InputError(f"{what} {path} does not exist: check the path")
    return path


def finite_number(value: object, what: str) -> float:
    """`value` as a float.

    Args:
        value: an int or a float (not a bool, not text).
        what: names it in the message, for example "x of pin 2".
    Raises:
        InputError: not a number, or NaN or infinite.
    """
    plain = isinstance(value, (int, float)) or hasattr(value, "__float__")
    if isinstance(value, (bool, str, bytes)) or not plain:
        raise InputError(f"{what} must be a number, but {shown(value)} came: write it as digits")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{what} must be a number, but {shown(value)} came") from error
    if not math.isfinite(number):
        raise InputError(f"{what} must be finite, but {number} came: remove or replace it")
    return number


def number_between(value: object, low: float | int, high: float | int, what: str) -> float:
    """`value` as a float with `low <= value <= high`; InputError otherwise."""
    number = finite_number(value, what)
    if not low <= number <= high:
        raise InputError(f"{what} must lie between {low:g} and {high:g}, but {number:g} came")
    return number


def whole_number(value: object, low: int, high: int, what: str) -> int:
    """`value` as an int with `low <= value <= high` (2.0 counts as 2); InputError otherwise."""
    number = finite_number(value, what)
    if number != int(number):
        raise InputError(f"{what} must be a whole number, but {shown(value)} came")
    if not low <= int(number) <= high:
        raise InputError(
            f"{what} must be a whole number from {low} to {high}, but {shown(value)} came"
        )
    return value if isinstance(value, int) else int(number)


def positive_integer(value: object, what: str) -> int:
    """`value` as an int of at least 1 (2.0 counts as 2); InputError otherwise."""
    number = finite_number(value, what)
    if number != int(number) or number < 1:
        raise InputError(f"{what} must be a whole number of at least 1, but {shown(value)} came")
    return int(number)


def image_size(value: object, what: str = "size") -> tuple[int, int]:
    """`value` as (width, height) in pixels, two whole numbers of at least 1."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise InputError(f"{what} must be [width, height], but {shown(value)} came")
    width = positive_integer(value[0], f"width in {what}")
    return width, positive_integer(value[1], f"height in {what}")


def clip_size(value: object, what: str = "size") -> tuple[int, int]:
    """`image_size` of a clip, which must fit into memory; InputError if it is too large."""
    (width, height), (wide, high) = image_size(value, what), LARGEST_CLIP
    if width * height > wide * high:
        raise InputError(
            f"{what} must not have more pixels than {wide}x{high}, but {width}x{height} came: ask"
            " for a smaller clip"
        )
    return width, height


def point_xy(value: object, what: str) -> tuple[float, float]:
    """`value` as a pixel (x, y) of two finite numbers; InputError otherwise."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or len(value) != 2:
        raise InputError(f"{what} must be [x, y], two numbers, but {shown(value)} came")
    x, y = value
    return finite_number(x, f"x of {what}"), finite_number(y, f"y of {what}")


def refuse_unknown(data: dict, known: tuple[str, ...], what: str) -> None:
    """InputError if a JSON object has a key that is not in `known`."""
    unknown = [key for key in data if key not in known]
    if unknown:
        raise InputError(
            f"{what} has no key {shown(unknown[0])}: use only {', '.join(known)}, or remove it"
        )

"""Guards: every message says what was expected, what came, and what to do."""

import json
import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path

LARGEST_CLIP = (2048, 2048)  # width and height; other shapes may have as many pixels
LARGEST_IMAGE = (16384, 16384)  # that a motion may be drawn on, likewise
LARGEST_TEXT = 2**25  # bytes of a JSON file
LONGEST_INTEGER = 4000  # digits; longer ones are read as infinite


class InputError(ValueError):
    """A user's input cannot be used; the message is one sentence with the remedy."""


def shown(value: object, limit: int = 40) -> str:
    """`value` as it may stand in a message: `repr`, cut to `limit` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # integers of thousands of digits have none
        text = f"a very long {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def existing_file(path: str | os.PathLike, what: str) -> Path:
    """`path` as a Path; InputError when there is no such file, or one that must not be read.

    Folders, pipes and devices are told by their kind, without being opened.

    Args:
        what: names it in the message, for example "video".
    """
    name = str(path) if len(str(path)) <= 200 else f"...{str(path)[-190:]}"
    called = f"{what} {name if name.isprintable() else ascii(name)}"
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # also names that no file can have
        raise InputError(f"{called} does not exist: check the path") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{called} is a folder: name a file")
    if not stat.S_ISREG(mode):
        raise InputError(f"{called} is a pipe or a device: save what it holds as a file, name that")
    if not os.access(path, os.R_OK):
        raise InputError(f"{called} may not be read by you: change its permissions")
    return Path(path)


def read_json(source: str | os.PathLike | bytes, what: str) -> object:
    """What a JSON file holds, or its bytes: UTF-8, UTF-16 or UTF-32, with or without a BOM.

    Args:
        what: names the file's kind, or the bytes, in a message.
    Raises:
        InputError: no such file, not JSON (it says where), nested too deeply, or too large.
    """
    called = what if isinstance(source, bytes) else f"{what} {source}"
    try:
        data = source if isinstance(source, bytes) else existing_file(source, what).read_bytes()
        if len(data) > LARGEST_TEXT:
            raise InputError(
                f"{called} is larger than {LARGEST_TEXT >> 20} MB: is it the right file?"
            )
        return json.loads(data, parse_int=_integer)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise InputError(
            f"{called} is not valid JSON ({where}): correct it there or fetch it again"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{called} is not written in UTF-8: save it again as UTF-8") from error
    except RecursionError as error:
        raise InputError(
            f"{called} is not valid JSON (nested too deeply): is it damaged?"
        ) from error
    except OSError as error:
        raise InputError(f"{called} cannot be read: {error}") from error


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST_INTEGER else float(digits)


def as_number(text: str) -> object:
    """The number that `text` spells; or the text itself, for the checks to refuse."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


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


def image_size(
    value: object, what: str = "size", largest: tuple[int, int] = LARGEST_IMAGE
) -> tuple[int, int]:
    """`value` as (width, height) in pixels, whole numbers of at least 1 that fit into memory."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise InputError(f"{what} must be [width, height], but {shown(value)} came")
    width = positive_integer(value[0], f"width in {what}")
    height = positive_integer(value[1], f"height in {what}")
    if width * height > largest[0] * largest[1]:
        raise InputError(
            f"{what} must not have more pixels than {largest[0]}x{largest[1]}, but"
            f" {shown(width)}x{shown(height)} came: ask for a smaller one"
        )
    return width, height


def clip_size(value: object, what: str = "size") -> tuple[int, int]:
    """`image_size` of a clip, which must fit into memory; InputError if it is too large."""
    return image_size(value, what, LARGEST_CLIP)


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

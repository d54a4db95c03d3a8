"""Guards: every message says what was expected, what came, and what to do."""

import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

File = str | os.PathLike  # or folder, by its path
Size = tuple[int, int]  # (width, height) of pictures and motions, (height, width) of tensors
LARGEST_CLIP = (2048, 2048)  # width and height; other shapes may have as many pixels
LARGEST_IMAGE = (16384, 16384)  # that a motion may be drawn on, likewise
LARGEST_TEXT = 2**25  # bytes of a JSON file


class InputError(ValueError):
    """A user's input cannot be used; the message is one sentence with the remedy."""


def shown(value: object, limit: int = 40) -> str:
    """`value` as it may stand in a message: `repr`, cut to `limit` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # integers of thousands of digits have none
        text = f"a very long {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 3] + "..."


@contextmanager
def refusing(what: str, remedy: str, *errors: type[Exception]) -> Iterator[None]:
    """Errors of these kinds as InputError "`what` (reason): `remedy`"; an InputError passes."""
    try:
        yield
    except InputError:
        raise
    except errors as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{what} ({' '.join(reason.split())}): {remedy}") from error


@contextmanager
def naming(what: str) -> Iterator[None]:
    """An InputError says first what it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


@contextmanager
def whole_file(path: File) -> Iterator[Path]:
    """A temporary name beside `path`, which becomes `path` only if the block succeeds."""
    path = Path(path)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def existing_file(path: File, what: str) -> Path:
    """`path` as a Path; InputError where it is no plain file. `what` it is, like "video"."""
    name = str(path) if len(str(path)) <= 200 else f"...{str(path)[-190:]}"
    called = f"{what} {name if name.isprintable() else ascii(name)}"
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # also names that no file can have
        raise InputError(f"{called} does not exist: check the path") from error
    if not stat.S_ISREG(mode):
        raise InputError(f"{called} is a folder, a pipe or a device: name a file")
    if not os.access(path, os.R_OK):
        raise InputError(f"{called} may not be read by you: change its permissions")
    return Path(path)


def read_json(source: File | bytes, what: str) -> Any:
    """What a JSON file holds, or its bytes: UTF-8, UTF-16 or UTF-32, with or without a BOM.
    InputError where there is no such file, or it is not JSON (it says where) or too large."""
    called = what if isinstance(source, bytes) else f"{what} {source}"
    wrong, correct = f"{called} is not valid JSON", "correct it there or fetch it again"
    with (
        refusing(f"{called} cannot be read", "check the disk it lies on", OSError),
        refusing(f"{wrong}, but nested too deeply", "is it damaged?", RecursionError),
        refusing(f"{called} is not written in UTF-8", "save it so", UnicodeDecodeError),
        refusing(wrong, correct, json.JSONDecodeError),
    ):
        data = source if isinstance(source, bytes) else existing_file(source, what).read_bytes()
        if len(data) > LARGEST_TEXT:
            most = LARGEST_TEXT >> 20
            raise InputError(f"{called} is larger than {most} MB: is it the right file?")
        return json.loads(data, parse_int=_integer)


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= 4300 else float(digits)  # Python refuses longer ones


def as_number(text: str) -> object:
    """The number that `text` spells; or the text itself, for the checks to refuse."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def choice(value: Any, names: Iterable[Any], what: str) -> Any:
    """`value`, which must be one of `names`; InputError otherwise."""
    if value not in (names := list(names)):
        listed = ", ".join(map(str, names))
        raise InputError(f"{what} must be one of {listed}, but {shown(value)} came")
    return value


def finite_number(value: object, what: str) -> float:
    """`value` (an int or a float, no bool, no text) as a float; InputError, also for NaN."""
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        came = f"{shown(value)} came: write it as digits"
        raise InputError(f"{what} must be a number, but {came}") from error
    if not math.isfinite(number):
        raise InputError(f"{what} must be finite, but {number} came: remove or replace it")
    return number


def number_between(value: object, low: float, high: float, what: str) -> float:
    """`value` as a float with `low <= value <= high`; InputError otherwise."""
    number = finite_number(value, what)
    if not low <= number <= high:
        raise InputError(f"{what} must lie between {low:g} and {high:g}, but {number:g} came")
    return number


def whole_number(value: object, low: int, high: int, what: str) -> int:
    """`value` as an int with `low <= value <= high` (2.0 counts as 2); InputError otherwise."""
    number = finite_number(value, what)
    if number != int(number) or not low <= int(number) <= high:
        expected = f"{what} must be a whole number from {low} to {high}"
        raise InputError(f"{expected}, but {shown(value)} came")
    return value if isinstance(value, int) else int(number)


def numbers(
    value: Any, count: int, what: str, low=-math.inf, high=math.inf, names: Sequence[str] = ()
) -> tuple[float, ...]:
    """`value`, a sequence of so many finite numbers in a range, as floats; InputError otherwise,
    which calls them "number 1", ... or by their `names`."""
    plain = isinstance(value, (str, bytes, dict)) or not hasattr(value, "__len__")
    if plain or len(value) != count:
        expected = f"[{', '.join(names)}]" if names else f"{count} numbers"
        raise InputError(f"{what} must be {expected}, but {shown(value)} came")
    names = names or [f"number {number}" for number in range(1, count + 1)]
    pairs = zip(value, names, strict=True)
    return tuple(number_between(one, low, high, f"{name} of {what}") for one, name in pairs)


def image_size(value: object, what: str = "size", largest: Size = LARGEST_IMAGE) -> Size:
    """`value` as (width, height) in pixels, whole numbers of at least 1 that fit into memory."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise InputError(f"{what} must be [width, height], but {shown(value)} came")
    most = largest[0] * largest[1]
    width = whole_number(value[0], 1, most, f"width in {what}")
    height = whole_number(value[1], 1, most, f"height in {what}")
    if width * height > most:
        expected = f"{what} must not have more pixels than {largest[0]}x{largest[1]}"
        raise InputError(f"{expected}, but {width}x{height} came: ask for a smaller one")
    return width, height


def shaped(value: Any, pattern: str, what: str) -> Any:
    """`value` (array or tensor), whose shape fits a pattern like "2 H W | T 2 H W", where a name
    stands for any size of at least 1."""
    patterns = [one.split() for one in pattern.split("|")]
    shape = tuple(getattr(value, "shape", ()))
    for names in patterns:
        sizes = list(zip(names, shape, strict=False))
        alike = all(str(n) == name if name.isdigit() else n > 0 for name, n in sizes)
        if len(names) == len(shape) and alike:
            return value
    expected = " or ".join(f"[{', '.join(names)}]" for names in patterns)
    came = f"shape {list(shape)}" if shape else shown(value)
    raise InputError(f"{what} must be {expected}, but {came} came")


def finite(values: Any, what: str, remedy: str) -> Any:
    """`values` (array or tensor) as they are; InputError where one is NaN or infinite."""
    if not bool((abs(values) < math.inf).all()):
        raise InputError(f"{what} has NaN or infinite values: {remedy}")
    return values


def refuse_unknown(data: Any, known: Iterable[str], what: str) -> dict:
    """`data`, which must be a JSON object with keys of `known` only; InputError otherwise."""
    if not isinstance(data, dict):
        raise InputError(f"{what} must be an object {{...}}, but {shown(data)} came")
    for key in data:
        if key not in known:
            listed = ", ".join(known)
            raise InputError(f"{what} has no key {shown(key)}: use only {listed}, or remove it")
    return data

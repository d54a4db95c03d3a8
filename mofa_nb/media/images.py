"""Photographs in: read from anything, as RGB pixels."""

import io
import math
import warnings
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, UnidentifiedImageError

from mofa_nb.checks import File, InputError, existing_file, shaped

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any  # a picture is read, and refused, without torch

SMALLEST_SIDE = 32  # pixels; below it there is nothing to see
LARGEST_DECODED = 110_000_000  # pixels; more than the largest cameras' that do not write JPEG
LARGEST_JPEG = 220_000_000  # pixels; its decoder makes it smaller on the way
LARGEST_KEPT = 2**25  # pixels; eight times the largest clip's

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")  # as folders hold them
Picture = UInt8[np.ndarray, "H W 3"]
ImageSource = File | io.BytesIO | Image.Image
_TOO_LARGE = f"larger than {LARGEST_DECODED / 1e6:.0f} megapixels: make it smaller, a clip has 4"
_TURNS = dict(zip(range(2, 9), (0, 3, 1, 5, 4, 6, 2), strict=True))  # EXIF -> Image.Transpose
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}


def read_image(source: object) -> Picture:
    """Any photograph as RGB pixels: sRGB by its colour profile, turned upright, transparent parts
    over white, of an animation the first frame, from 33 megapixels on at a half, a third, ...

    source: a path, the bytes of a file, a PIL image, or an array [H, W] or [H, W, 1, 3 or 4] of
    uint8, uint16, or floats in [0, 1]. InputError: not readable as a picture, far too large, or a
    side shorter than 32 px."""
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    if isinstance(source, ImageSource):
        name = "image" if isinstance(source, File) else "the image"
        pixels = rgb_pixels(load_image(source, name), name)
    else:
        pixels = _from_array(source)
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        small = f"the image is {width}x{height}, too small to animate"
        raise InputError(f"{small}: give one of at least {SMALLEST_SIDE} pixels a side")
    return pixels


def load_image(source: ImageSource, what: str) -> Image.Image:
    """A picture decoded and turned upright, made smaller if it is far larger than any clip;
    InputError names `what` it is: no such file, not readable as a picture, or too large."""
    if isinstance(source, File):
        source = existing_file(source, what)
        what = f"{what} {source}"
    is_open = isinstance(source, Image.Image)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some that Pillow warns of can still be read
            with nullcontext(source) if is_open else _opened(source) as image:
                _ask_for_less(image, what)
                image.load()
                icon = image.format in ("ICNS", "ICO")  # which reads its file again later
                return _upright(_shrunk(image.copy() if icon else image))
    except InputError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files, some in many lines
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        reason = "no picture" if isinstance(error, UnidentifiedImageError) else reason
        wrong = f"{what} cannot be read ({reason})"
        raise InputError(f"{wrong}: save it again as PNG or JPEG") from error


def _opened(source: File | io.BytesIO) -> Image.Image:
    """Opened, not decoded: Pillow's own limit leaves out that a JPEG can be decoded smaller."""
    try:
        return Image.open(source)
    except Image.DecompressionBombError as error:
        with suppress(SyntaxError):
            return JpegImagePlugin.JpegImageFile(source)
        raise InputError(f"the picture is {_TOO_LARGE}") from error


def _ask_for_less(image: Image.Image, what: str) -> None:
    """Let the decoder make a smaller picture, where it can; refuse what stays too large for it."""
    (width, height), halvings = image.size, 0
    most = LARGEST_JPEG if image.format in ("JPEG", "MPO", "JPEG2000") else LARGEST_DECODED
    if width * height > most:
        raise InputError(f"{what} is {_TOO_LARGE}")
    while (width * height >> 2 * halvings) > LARGEST_KEPT:
        halvings += 1
    image.draft(None, (width >> halvings, height >> halvings))
    if image.format == "JPEG2000" and halvings:
        image.reduce = halvings
    if image.format == "EPS":
        raise InputError(f"{what} is a drawing (EPS), not pixels: export it as PNG")


def _shrunk(image: Image.Image) -> Image.Image:
    if (factor := math.ceil(math.sqrt(image.width * image.height / LARGEST_KEPT))) == 1:
        return image
    if image.mode in ("1", "P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode.startswith("I;16"):
        image = image.convert("I")
    return image.reduce(factor)


def _upright(image: Image.Image) -> Image.Image:
    turn = None
    with suppress(Exception):  # Pillow raises many kinds for broken tags, which say nothing then
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    return image if turn is None else image.transpose(Image.Transpose(turn))


def rgb_pixels(image: Image.Image, what: str) -> Picture:
    """A loaded picture over white, in sRGB; InputError for grey of more than 16 bits."""
    if image.mode == "F":
        return _from_array(image)
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise InputError(f"{what} has more than 16 bits a pixel: save it with 8 or 16")
        return _from_array(values.astype(np.uint16))
    if image.has_transparency_data:
        image = image.convert("RGBA")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    image = _in_srgb(image).convert("RGB")
    if alpha is not None:
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    return np.array(image)


def _in_srgb(image: Image.Image) -> Image.Image:
    """Colours by the picture's own profile; without one, or with a broken one, they are sRGB's."""
    embedded, lab = image.info.get("icc_profile"), image.mode == "LAB"
    if not (embedded or lab):
        return image
    try:
        profile = ImageCms.createProfile("LAB")
        if not lab:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded)).profile
        mode = _PROFILE_MODES.get(profile.xcolor_space.strip(), "")
        is_ours = "srgb" in (profile.profile_description or "").lower()
        misfits = mode != image.mode and not {"CMYK", "LAB", ""}.isdisjoint((mode, image.mode))
        if is_ours or misfits:
            return image
        plain = image.convert("RGB") if image.mode == "RGBA" else image
        return ImageCms.profileToProfile(
            plain.convert(mode), profile, ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


def _from_array(source: object) -> Picture:
    if hasattr(source, "detach"):
        source = source.detach().cpu()
        source = source.float() if source.is_floating_point() else source  # NumPy has no bfloat16
    array = np.asarray(source)
    array = array[..., None] if array.ndim == 2 else array
    shaped(array, "height width 1 | height width 3 | height width 4", "an image array")
    if array.shape[-1] == 4:
        unit = _to_unit(array)
        array = unit[..., :3] * unit[..., 3:] + (1 - unit[..., 3:])
    if array.dtype == np.uint16:
        array = (array.astype(np.uint32) + 128) // 257
    elif array.dtype != np.uint8:
        array = np.rint(_to_unit(array) * 255)
    return array.astype(np.uint8).repeat(3 // array.shape[-1], axis=-1)


def _to_unit(array: np.ndarray) -> np.ndarray:
    if array.dtype in (np.uint8, np.uint16):
        return array / np.iinfo(array.dtype).max
    wrong = "image values must be uint8, uint16, or floats in [0, 1], but"
    if array.dtype.kind != "f":
        raise InputError(f"{wrong} {array.dtype} came: convert them")
    low, high = float(array.min()), float(array.max())
    if not (0 <= low and high <= 1):  # NaN is neither
        remedy = "divide by 255" if 0 <= low and high <= 255 else "convert them"
        raise InputError(f"{wrong} {low:g} to {high:g} came: {remedy}")
    return array.astype(np.float64)


def to_unit(image: UInt8[np.ndarray, "*T H W 3"]) -> Float[Tensor, "*T 3 H W"]:
    """uint8 pixels -> float32 in [0, 1], channel first."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, -3).float() / 255


def to_uint8(image: Float[Tensor, "*T 3 H W"]) -> UInt8[np.ndarray, "*T H W 3"]:
    """Floats in [0, 1], channel first -> uint8 pixels; values outside are clipped."""
    pixels = (image.detach().float().clamp(0, 1) * 255).round().byte()
    return pixels.movedim(-3, -1).cpu().numpy()

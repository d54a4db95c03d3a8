"""Pictures of every format, mode, size and profile, damaged and not."""

import io
import struct
import zlib
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from mofa_nb.media.images import read_image
from mofa_nb.motion.brush import read_painted
from mofa_nb.pad.picture import open_picture
from tests.fuzz.bytes import damaged, no_file

FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "PPM", "TGA", "ICO", "JPEG2000", "AVIF",
           "PCX", "SGI", "DDS", "MPO", "IM", "SPIDER", "MSP", "XBM", "EPS", "ICNS")  # fmt: skip
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "La", "CMYK", "YCbCr", "LAB", "HSV",
         "I", "I;16", "I;16B", "F", "RGBX")  # fmt: skip


def pixels(rng: np.random.Generator, mode: str) -> Image.Image:
    """A smooth picture of some mode and size."""
    sizes = [(64, 48), (33, 200), (32, 32), (31, 90), (1, 1), (400, 300), (3000, 40), (1200, 900)]
    shares = [0.4, 0.1, 0.1, 0.05, 0.05, 0.2, 0.05, 0.05]
    width, height = sizes[int(rng.choice(len(sizes), p=shares))]
    y, x = np.mgrid[:height, :width]
    photo = np.stack([x * 3 % 256, y * 5 % 256, (x + y) % 256, 255 - x % 256], -1).astype(np.uint8)
    if mode.startswith("I"):
        deep = photo[..., 0].astype(np.int32) * int(rng.choice([1, 257, -3, 70000]))
        return Image.fromarray(deep if mode == "I" else deep.astype(np.uint16))
    if mode == "F":
        scale = float(rng.choice([1 / 255, 1, -1]))
        return Image.fromarray(photo[..., 0].astype(np.float32) * scale)
    image = Image.fromarray(photo)
    if mode == "P":
        return image.convert("RGB").quantize(int(rng.integers(2, 200)))
    if mode == "LAB":
        return ImageCms.profileToProfile(
            image.convert("RGB"), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"),
            outputMode="LAB")  # fmt: skip
    through = {"PA": "P", "La": "LA", "HSV": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LA": "LA"}
    return image.convert(through.get(mode, mode)).convert(mode)


@cache
def profiles() -> list[bytes]:
    """Real colour profiles, and things that are none."""
    made = [ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes() for kind in
            ("sRGB", "LAB", "XYZ")]  # fmt: skip
    return [*made, b"", b"none", made[0][:200], made[0][:-40], bytes(300), b"\xff" * 5000]


def extras(rng: np.random.Generator) -> dict:
    """Profile, EXIF and transparency, right or wrong."""
    given = {}
    if rng.random() < 0.3:
        known = profiles()
        given["icc_profile"] = known[int(rng.integers(len(known)))]
    if rng.random() < 0.3:
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(0, 12))
        data = exif.tobytes()
        broken = rng.random() < 0.5
        given["exif"] = data[:6] + damaged(rng, data[6:] + rng.bytes(30))[1] if broken else data
    if rng.random() < 0.1:
        given["transparency"] = int(rng.integers(0, 3))
    return given


def encoded(rng: np.random.Generator, image: Image.Image, kind: str) -> bytes:
    """A file's bytes; a picture that a format does not take is saved as PNG or TIFF."""
    options, buffer = extras(rng), io.BytesIO()
    if kind == "AVIF":
        options.pop("exif", None)  # a broken one ends Pillow's writer, and the process with it
    if rng.random() < 0.15 and kind in ("GIF", "WEBP", "TIFF", "PNG", "AVIF"):
        options |= {"save_all": True, "append_images": [image.copy(), image.copy()]}
    for attempt in ((kind, options), (kind, {}), ("TIFF", {}), ("PNG", {})):
        try:
            image.save(buffer, attempt[0], **attempt[1])
            return buffer.getvalue()
        except Exception:  # what Pillow cannot write is not our question
            buffer = io.BytesIO()
    return buffer.getvalue()


def promising(rng: np.random.Generator) -> bytes:
    """A small PNG that promises, and sometimes holds, far more than it should."""
    width, height = (int(v) for v in rng.choice([1, 50, 5000, 13_300, 60_000, 2**31 - 1], 2))
    depth, colour = ((8, 2), (16, 0), (16, 6), (1, 0), (8, 3))[int(rng.integers(5))]
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    row = 1 + (width * depth * channels + 7) // 8
    real = rng.random() < 0.4 and row * height < 1.2e9
    packer, packed = zlib.compressobj(1), b""
    for _ in range(height if real else 0):
        packed += packer.compress(bytes(row))
    packed += packer.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
              (b"IDAT", packed), (b"IEND", b"")]  # fmt: skip
    if rng.random() < 0.3:
        chunks.insert(1, (b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))))
    if colour == 3:
        chunks.insert(1, (b"PLTE", bytes(30)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d))
        for name, d in chunks
    )


def inputs(rng: np.random.Generator, folder: Path):
    """A name for one input, and what is done with it."""
    suffix = str(rng.choice([".png", ".jpg", ".webp", ".tif", ".txt", ""]))
    if rng.random() < 0.03:
        kind, path = no_file(rng, folder, suffix)
        return kind, uses(path)
    kind, mode = str(rng.choice(FORMATS)), str(rng.choice(MODES))
    if rng.random() < 0.02:
        kind, data = "promising", promising(rng)
    else:
        data = encoded(rng, pixels(rng, mode), kind)
    how, data = damaged(rng, data)
    path = folder / f"picture{suffix}"
    path.write_bytes(data)
    return f"{kind}, {mode}, {how}", uses(path) | {"upload": partial(open_picture, data)}


def uses(path) -> dict:
    """A picture and a mask."""
    return {"picture": partial(read_image, path), "mask": partial(read_painted, path, "mask")}

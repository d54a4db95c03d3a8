"""Every photograph arrives as upright RGB, fits the model's grid, and takes its motion along."""

import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from mofa_nb.checks import InputError
from mofa_nb.media import images
from mofa_nb.media.images import read_image, to_uint8, to_unit
from mofa_nb.motion.brush import read_painted
from mofa_nb.motion.fit import Fit, fit_image, fit_motion, plan_fit
from mofa_nb.motion.motion import Motion
from mofa_nb.show.notebook import image_bytes

CASES, DATA = Path(__file__).parent / "cases", Path(__file__).parents[1] / "data"


@pytest.fixture
def photo():
    """A smooth picture, 60 wide and 40 high, so that JPEG keeps it."""
    y, x = np.mgrid[:40, :60]
    return np.dstack([x * 4, y * 6, 255 - x * 2 - y]).astype(np.uint8)


def test_a_png_a_pil_image_and_arrays_of_every_kind_are_taken_as_they_are(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "p.png")
    for source in (
        tmp_path / "p.png", str(tmp_path / "p.png"), Image.fromarray(photo), photo, photo / 255,
        (photo / 255).astype(np.float32), photo.astype(np.uint16) * 257, torch.from_numpy(photo),
    ):  # fmt: skip
        assert np.array_equal(read_image(source), photo)


def test_grey_becomes_three_equal_channels(photo, tmp_path):
    grey = photo[..., 0]
    Image.fromarray(grey).save(tmp_path / "g.png")
    expected = np.repeat(grey[..., None], 3, axis=2)
    assert np.array_equal(read_image(tmp_path / "g.png"), expected)
    assert np.array_equal(read_image(grey), expected)
    assert np.array_equal(read_image(grey[..., None]), expected)


def test_deep_and_float_pictures_keep_their_brightness(photo, tmp_path):
    import cv2

    deep, grey = photo.astype(np.uint16) * 257, photo[..., 0]
    Image.fromarray((grey / 255).astype(np.float32)).save(tmp_path / "float.tif")
    cv2.imwrite(str(tmp_path / "colour.png"), deep[..., ::-1])
    assert np.array_equal(read_image(tmp_path / "colour.png"), photo)
    for name in ("grey.png", "grey.tif"):
        Image.fromarray(deep[..., 0]).save(tmp_path / name)
    for name in ("grey.png", "grey.tif", "float.tif"):
        assert np.array_equal(read_image(tmp_path / name)[..., 1], grey)
    assert (read_image(np.full((40, 40), 40000, np.uint16)) == 156).all()  # 40000 / 257 = 155.6


def test_transparent_parts_lie_over_white(photo, tmp_path):
    alpha = np.zeros((40, 60), np.uint8)
    alpha[:, 30:] = 255
    Image.fromarray(np.dstack([photo, alpha])).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", np.dstack([photo, alpha])):
        pixels = read_image(source)
        assert (pixels[:, :30] == 255).all()
        assert np.array_equal(pixels[:, 30:], photo[:, 30:])


def test_a_palette_with_a_transparent_colour_lies_over_white(tmp_path):
    image = Image.new("P", (40, 40), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (20, 0, 40, 40))
    image.save(tmp_path / "p.gif", transparency=0)
    pixels = read_image(tmp_path / "p.gif")
    assert pixels[0, 0].tolist() == [255, 255, 255] and pixels[0, 30].tolist() == [200, 100, 50]


def adobe_like() -> bytes:
    """A profile as sRGB's, but with its red and green changed for each other."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * data[131], 12)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    data[red + 4 : red + 12], data[green + 4 : green + 12] = (
        data[green + 4 : green + 12],
        data[red + 4 : red + 12],
    )
    return bytes(data).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_are_those_that_the_profile_says(photo, tmp_path, mode):
    image = Image.fromarray(photo)
    image = image.quantize(64) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "p.png", icc_profile=adobe_like())
    shown = np.array(image.convert("RGB"))
    difference = read_image(tmp_path / "p.png").astype(int) - shown[..., [1, 0, 2]]
    assert np.abs(difference).max() <= 2


@pytest.mark.parametrize("profile", [b"none", b"", adobe_like()[:300], adobe_like()[:-200]])
def test_a_broken_profile_says_nothing(photo, tmp_path, profile):
    Image.fromarray(photo).save(tmp_path / "p.png", icc_profile=profile)
    whole = np.array_equal(read_image(tmp_path / "p.png"), photo)
    assert whole or len(profile) > 1000  # where only the last curve is cut, colours may follow it
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "c.tif", icc_profile=adobe_like())
    assert np.abs(read_image(tmp_path / "c.tif").astype(int) - photo).mean() < 4


def test_cmyk_lab_grey_and_wide_gamuts_become_srgb(photo, tmp_path):
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = Image.fromarray(photo)
    ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB").save(tmp_path / "lab.tif")
    image.convert("CMYK").save(tmp_path / "c.jpg", quality=95)
    for name, most in (("lab.tif", 3), ("c.jpg", 4)):
        assert np.abs(read_image(tmp_path / name).astype(int) - photo).mean() < most
    grey = Image.fromarray(photo[..., 0])
    grey.save(tmp_path / "g.png", icc_profile=adobe_like())  # a profile of colours: taken as such
    assert read_image(tmp_path / "g.png").shape == photo.shape
    wide = read_image(CASES / "wide_gamut.jpg").astype(int)
    assert np.abs(wide - read_image(DATA / "flower.jpg")).mean() < 1.8


def test_icons_are_pictures_too(photo, tmp_path):
    icon = Image.fromarray(np.tile(photo, (2, 2, 1))[:64, :64])
    for name in ("a.icns", "a.ico"):
        icon.save(tmp_path / name)
        assert read_image(tmp_path / name).shape[2] == 3
        assert read_painted(tmp_path / name, "mask").any()


def test_an_exif_rotated_photograph_stands_upright_and_broken_exif_is_no_reason_to_fail(
    photo, tmp_path
):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    exif[0x829A] = "no number"  # of a tag that holds a fraction
    whole = exif.tobytes()
    for broken in (whole[:9], whole[:20] + b"\xff" * 40, b"Exif\0\0", b"Exif\0\0II" + b"\xff" * 9):
        Image.fromarray(photo).save(tmp_path / "b.jpg", exif=broken)
        assert read_image(tmp_path / "b.jpg").size == photo.size
    Image.fromarray(photo).save(tmp_path / "r.png", exif=whole)
    assert np.array_equal(read_image(tmp_path / "r.png"), np.rot90(photo, -1))


def test_a_photograph_of_two_hundred_megapixels_is_read_at_reduced_size(tmp_path):
    Image.new("L", (16320, 12288), 120).save(tmp_path / "phone.jpg")
    pixels = read_image(tmp_path / "phone.jpg")
    assert pixels.shape == (3072, 4080, 3) and (pixels[0, 0] == 120).all()


@pytest.mark.parametrize("mode", ["RGB", "P", "L", "1", "I;16", "RGBA"])
def test_a_picture_far_larger_than_any_clip_is_read_smaller(mode, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "LARGEST_KEPT", 90 * 60)
    Image.new(mode, (200, 100), 1 if mode == "1" else 0).save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").shape == (50, 100, 3)
    assert read_painted(tmp_path / "p.png", "mask").shape == (50, 100)


@pytest.mark.parametrize(("depth", "colour"), [(8, 2), (16, 0), (16, 6), (1, 0)])
def test_a_small_file_that_unfolds_to_gigabytes_is_refused_from_its_header(depth, colour, tmp_path):
    for side in (13_300, 60_000, 2**31 - 1):
        (tmp_path / "bomb.png").write_bytes(png_header(side, side, depth, colour))
        for read in (read_image, partial(read_painted, what="mask")):
            with pytest.raises(InputError, match="larger than 110 megapixels"):
                read(tmp_path / "bomb.png")


MASKS = {  # a mask that is bright on the right, in every mode
    "1": lambda m: m.point(lambda v: 255 * (v > 127)).convert("1"),
    "L": lambda m: m, "P": lambda m: m.convert("P"),
    "RGB": lambda m: m.convert("RGB"), "CMYK": lambda m: m.convert("CMYK"),
    "YCbCr": lambda m: m.convert("YCbCr"),
    "I;16": lambda m: Image.fromarray(np.array(m).astype(np.uint16) * 257),
    "I": lambda m: Image.fromarray(np.array(m).astype(np.int32) * 257),
    "F": lambda m: Image.fromarray(np.array(m).astype(np.float32) / 255),
    "RGBA": lambda m: Image.merge("RGBA", [Image.new("L", m.size)] * 3 + [m]),
    "LA": lambda m: Image.merge("LA", [Image.new("L", m.size), m]),
}  # fmt: skip


@pytest.mark.parametrize("mode", MASKS)
def test_masks_take_every_mode_that_pictures_take(mode, tmp_path):
    painted = np.zeros((40, 60), np.uint8)
    painted[:, 30:] = 200
    MASKS[mode](Image.fromarray(painted)).save(tmp_path / "m.tif")
    read = read_painted(tmp_path / "m.tif", "mask")
    assert np.array_equal(read[:, 8:52] > 0, painted[:, 8:52] > 0)
    faint = MASKS[mode](Image.fromarray(painted // 4))  # a quarter as bright: not painted
    faint.save(tmp_path / "m.tif")
    assert mode == "1" or not read_painted(tmp_path / "m.tif", "mask").any()


def png_header(width, height, depth, colour):
    """A PNG that promises so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b""), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def test_what_is_no_readable_picture_gets_one_sentence(photo, tmp_path, monkeypatch):
    def fail(source):
        raise ValueError("first\nsecond")

    files = {
        "text.png": b"not a picture",
        "empty.jpg": b"",
        "cut.jpg": image_bytes(photo, "JPEG")[:700],
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} cannot be read") as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", fail)
        with pytest.raises(InputError, match=r"cannot be read \(first\): save it again"):
            read_image(b"")
    with pytest.raises(InputError, match="image is 31x200, too small"):
        read_image(np.zeros((200, 31, 3), np.uint8))
    assert read_image(np.zeros((32, 32, 3), np.uint8)).shape == (32, 32, 3)


SIZE = (40, 60, 3)
NO_PICTURES = [
    (np.zeros((3, 40, 60), np.uint8), "an image array must be"),
    (np.zeros((0, 40, 3), np.uint8), "an image array must be"),
    ("words".split(), "an image array must be"),
    (None, "an image array must be"),
    (np.full(SIZE, 200.0), "but 200 to 200 came: divide by 255"),
    *((np.full(SIZE, value), "convert them") for value in (256.0, -0.1, np.nan)),
    *((np.zeros(SIZE, kind), "but .* came: convert") for kind in ("i8", "?", "c8", "V4", "U1")),
    (np.full(SIZE, "a", "O"), "but .* came: convert"),
]


@pytest.mark.parametrize(("array", "sentence"), NO_PICTURES)
def test_arrays_that_are_no_picture_are_refused(array, sentence):
    with pytest.raises(InputError, match=sentence):
        read_image(array)


SHAPES = {  # (width, height) of a picture -> of a clip of short side 512
    (2000, 500): (2048, 512), (8000, 500): (4096, 256), (500, 8000): (256, 4096),
    (3200, 32): (6400, 64), (20_000, 40): (16_384, 64),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_extreme_shapes_are_fitted_to_four_squares_at_most_which_one_line_says(shape):
    fit = plan_fit(shape, 64, short_side=512)
    assert fit.size == SHAPES[shape] and fit.size[0] * fit.size[1] <= 4 * 512**2
    told = [note for note in fit.notes if "times as" in note]
    assert len(told) == (max(shape) > 4 * min(shape))


def test_the_shorter_side_is_scaled_and_both_are_cropped_to_the_multiple():
    fit = plan_fit((1000, 750), 64, short_side=512)
    assert (fit.scaled, fit.size, fit.offset) == ((683, 512), (640, 512), (22, 0))
    assert "cropped to 640x512 (43 pixels of width, 0 of height cut off)" in fit.notes[0]
    assert plan_fit((640, 427), 32, short_side=128).size == (192, 128)  # rounding costs nothing
    fit = plan_fit((400, 200), 32, size=(64, 64))  # another shape: the middle
    assert (fit.scaled, fit.size, fit.offset) == ((128, 64), (64, 64), (32, 0))


def test_an_image_that_fits_is_left_alone_and_cropping_keeps_the_middle(photo):
    image, fit = fit_image(np.tile(photo, (8, 8, 1))[:128, :192], 32, short_side=128)
    assert np.array_equal(image, np.tile(photo, (8, 8, 1))[:128, :192])
    assert fit == Fit((192, 128), (192, 128), (192, 128), (0, 0))
    fitted, fit = fit_image(photo, 32, short_side=40)
    assert fit.offset == (14, 4) and np.array_equal(fitted, photo[4:36, 14:46])


def test_a_size_that_is_no_multiple_is_cut_down_and_one_that_cannot_be_is_refused():
    fit = plan_fit((400, 300), 32, size=(200, 130))
    assert fit.size == (192, 128)
    assert fit.notes[0].startswith("size 200x130 became 192x128: both sides must be multiples")
    for size, sentence in (
        ((200, 20), r"size 200x20 is too small .* at least 32"),
        ("large", r"must be \[width, height\]"),
        ((100_000, 100_000), r"more pixels than 2048x2048, but .* came: ask for a"),
    ):
        with pytest.raises(InputError, match=sentence):
            plan_fit((400, 3200), 32, size=size)


def test_motion_follows_the_image():
    fit = Fit((400, 200), (128, 64), (64, 64), (32, 0))
    brush = np.zeros((100, 200), np.uint8)
    brush[:50, 100:] = 255
    drawn = Motion((200, 100), [[(100, 50), (190, 50)]], [(75, 25), (1, 1)], brush)
    motion, notes = fit_motion(drawn, fit)
    assert motion.size == (64, 64)
    assert motion.tracks[0].points == ((32, 32), (pytest.approx(89.6), 32))
    assert motion.pins == ((16, 16),)
    assert motion.brush[:32, 32:].all() and motion.brush.sum() == 255 * 32 * 32
    assert notes == ("1 of 2 pins lie in the cropped margin and are left out",)


def test_a_track_in_the_cropped_margin_is_refused():
    fit = plan_fit((400, 200), 32, size=(64, 64))
    with pytest.raises(InputError, match="track 1 starts in the margin that is cropped off"):
        fit_motion(Motion((400, 200), [[(10, 10), (200, 100)]]), fit)


def test_a_motion_drawn_on_another_shape_says_that_it_is_stretched():
    fit = plan_fit((400, 200), 32, short_side=64)
    motion, notes = fit_motion(Motion((100, 100), pins=[(50, 50)]), fit)
    assert motion.pins == ((64, 32),)
    assert notes == ("the motion was drawn on 100x100 and is stretched to the 400x200 image",)


def test_pixels_survive_the_way_to_floats_and_back(rng):
    clip = rng.integers(0, 256, (3, 8, 10, 3), dtype=np.uint8)
    unit = to_unit(clip)
    assert unit.shape == (3, 3, 8, 10) and 0 <= unit.min() and unit.max() <= 1
    assert np.array_equal(to_uint8(unit), clip)
    assert np.array_equal(to_uint8(to_unit(clip[0])), clip[0])
    assert to_uint8(torch.tensor([-1.0, 2.0, 0.5]).view(3, 1, 1)).tolist() == [[[0, 255, 128]]]

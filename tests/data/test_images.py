"""Pixels become 8 bits by the range of their type; what cannot is refused by name."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from nclens.data.images import read_image, stack_images

SIXTEEN = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def read(path, channels=1):
    return stack_images([read_image(path)], 1, None, channels, "images")[0].permute(1, 2, 0).numpy()


def tiff(path, pixels, bits, photometric=1, order="<"):
    """Write an uncompressed grey TIFF of one strip, in either byte order."""
    entries = [(256, pixels.shape[1]), (257, pixels.shape[0]), (258, bits), (259, 1), (262, photometric)]
    entries += [(273, 8 + 2 + 9 * 12 + 4), (277, 1), (278, pixels.shape[0])]
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    entries += [(279, len(data))]
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(entries))
    body = b"".join(struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    path.write_bytes(header + body + struct.pack(f"{order}I", 0) + data)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "big.tif", "a.pgm"])
def test_sixteen_bits_keep_256_levels(tmp_path, name):
    if name.endswith("tif"):
        tiff(tmp_path / name, SIXTEEN, 16, order=">" if name == "big.tif" else "<")
    elif name.endswith("pgm"):
        (tmp_path / name).write_bytes(b"P5 16 16 65535\n" + SIXTEEN.astype(">u2").tobytes())
    else:
        Image.fromarray(SIXTEEN).save(tmp_path / name)
    assert np.array_equal(read(tmp_path / name)[:, :, 0], GREY)
    assert np.array_equal(read(tmp_path / name, channels=3), np.stack([GREY] * 3, axis=2))


def test_a_range_is_that_of_the_type_and_never_that_of_the_image(tmp_path):
    Image.fromarray(np.full((4, 4), 514, dtype=np.uint16)).save(tmp_path / "dark.png")
    assert np.unique(read(tmp_path / "dark.png")).tolist() == [2]
    Image.fromarray(np.full((4, 4), 0.2, dtype=np.float32)).save(tmp_path / "dark.tif")
    assert np.unique(read(tmp_path / "dark.tif")).tolist() == [51]


def test_floats_between_zero_and_one_keep_256_levels(tmp_path):
    Image.fromarray((GREY / 255).astype(np.float32)).save(tmp_path / "a.tif")
    assert np.array_equal(read(tmp_path / "a.tif")[:, :, 0], GREY)


def frames(path, mode="RGB", **options):
    first, second = (Image.fromarray(np.full((4, 4, 3), grey, np.uint8)).convert(mode) for grey in (0, 255))
    first.save(path, save_all=True, append_images=[second], **options)


def transparent(path, alpha, mode="RGBA"):
    picture = Image.fromarray(COLOURS).convert(mode)
    picture.putalpha(Image.fromarray(np.full((8, 8), alpha, np.uint8)))
    picture.save(path)


def palette(path, alpha):
    Image.fromarray(COLOURS).convert("P", palette=Image.Palette.ADAPTIVE).save(path, transparency=bytes([alpha] * 256))


REFUSED = {
    "signed 32 bits": ("a.tif", lambda path: Image.fromarray(np.ones((4, 4), np.int32)).save(path), "32 bits"),
    "floats beyond one": (
        "a.tif",
        lambda path: Image.fromarray(np.linspace(0, 255, 16, dtype=np.float32).reshape(4, 4)).save(path),
        r"float pixels from 0 to 255; allowed are floats in \[0, 1\]",
    ),
    "not a number": (
        "a.tif",
        lambda path: Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(path),
        "float pixels from nan to nan",
    ),
    "white is zero": ("a.tif", lambda path: tiff(path, SIXTEEN, 16, photometric=0), "photometric interpretation 0"),
    "12 bits": ("a.tif", lambda path: tiff(path, SIXTEEN, 12), "a TIFF of 12 bits .* allowed are 16 bits with 1"),
    "RGBA": ("a.png", lambda path: transparent(path, 254), r"transparent pixels \(mode RGBA\); allowed are opaque"),
    "LA": ("a.png", lambda path: transparent(path, 0, "L"), r"transparent pixels \(mode LA\)"),
    "a palette with alpha": ("a.png", lambda path: palette(path, 200), r"transparent pixels \(mode P\)"),
    "a transparent colour": (
        "a.png",
        lambda path: Image.fromarray(COLOURS).save(path, transparency=tuple(COLOURS[0, 0].tolist())),
        r"transparent pixels \(mode RGB\)",
    ),
    "a transparent grey of 16 bits": (
        "a.png",
        lambda path: Image.fromarray(SIXTEEN).save(path, transparency=514),
        r"transparent pixels \(mode I;16\)",
    ),
    "an animated PNG": ("a.png", frames, "2 frames or pages; allowed is one image a file"),
    "an animated WebP": ("a.webp", lambda path: frames(path, lossless=True), "2 frames or pages"),
    "an animated GIF": ("a.png", lambda path: frames(path, format="GIF"), "2 frames or pages"),
    "pages of a TIFF": ("a.tif", frames, "2 frames or pages"),
    "half a file": (
        "a.png",
        lambda path: (Image.fromarray(COLOURS).save(path), path.write_bytes(path.read_bytes()[:120])),
        "cannot be read as an image",
    ),
    "a header of letters": (
        "a.pgm",
        lambda path: path.write_bytes(b"P5 4 4 2x5\n" + bytes(16)),
        "cannot be read as an image: invalid literal",
    ),
    "a TIFF without a width": (
        "a.tif",
        lambda path: (tiff(path, GREY, 8), path.write_bytes(path.read_bytes().replace(b"\0\1\3\0", b"\0\5\3\0", 1))),
        "cannot be read as an image",
    ),
    "tags that are none": (
        "a.webp",
        lambda path: Image.fromarray(COLOURS).save(path, exif=b"Exif\0\0no tags"),
        "cannot be read as an image: not a TIFF file",
    ),
    "no image": (
        "a.png",
        lambda path: path.write_bytes(b"no image"),
        "cannot be read as an image: Pillow knows no such format",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_eight_bits_cannot_hold_is_refused(tmp_path, case):
    name, write, words = REFUSED[case]
    write(tmp_path / name)
    with pytest.raises(ValueError, match=words) as caught:
        read_image(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: transparent(path, 255),
        lambda path: Image.fromarray(COLOURS).save(path, transparency=(1, 2, 3)),
    ],
)
def test_opaque_alpha_is_dropped(tmp_path, write):
    write(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png", channels=3), COLOURS)


def test_opaque_alpha_of_grey_and_of_a_palette_is_dropped(tmp_path):
    transparent(tmp_path / "grey.png", 255, "L")
    assert np.array_equal(read(tmp_path / "grey.png")[:, :, 0], np.array(Image.fromarray(COLOURS).convert("L")))
    palette(tmp_path / "palette.png", 255)
    with Image.open(tmp_path / "palette.png") as picture:
        colours = np.array(picture.convert("RGBA").convert("RGB"))
    assert np.array_equal(read(tmp_path / "palette.png", channels=3), colours)
    grey = Image.fromarray(SIXTEEN)
    grey.save(tmp_path / "sixteen.png", transparency=5)
    assert np.array_equal(read(tmp_path / "sixteen.png")[:, :, 0], GREY)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path, orientation):
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3)
    # How the camera stores an upright image, so that the orientation restores it.
    stored = {
        **{1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1]},
        **{5: upright.T, 6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1)},
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read(tmp_path / "a.png")[:, :, 0], upright)
    Image.fromarray(np.ascontiguousarray(stored).astype(np.uint16) * 257).save(tmp_path / "b.png", exif=exif)
    assert np.array_equal(read(tmp_path / "b.png")[:, :, 0], upright)
    # Pillow maps an uncompressed TIFF that is opened by its path, and takes the turned size for the stored one.
    for pixels in (stored, stored.astype(np.uint16) * 257):
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "c.tif", exif=exif)
        assert np.array_equal(read(tmp_path / "c.tif")[:, :, 0], upright)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("mode", "name"),
    [("1", "a.png"), ("P", "a.png"), ("CMYK", "a.jpg"), ("CMYK", "a.tif"), ("YCbCr", "a.tif"), ("L", "a.bmp")],
)
def test_other_modes_are_converted_as_pillow_does(tmp_path, mode, name, channels):
    Image.fromarray(COLOURS).convert(mode).save(tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        expected = np.array(picture.convert("L" if channels == 1 else "RGB")).reshape(8, 8, channels)
    assert np.array_equal(read(tmp_path / name, channels), expected)
    if mode == "1":
        assert set(np.unique(expected)) <= {0, 255}


def test_lab_is_converted_or_refused(tmp_path):
    lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    ImageCms.applyTransform(Image.fromarray(COLOURS), lab).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as picture:
        assert np.array_equal(read(tmp_path / "a.tif", channels=3), np.array(picture.convert("RGB")))
    with pytest.raises(ValueError, match="image 0 has mode LAB"):
        read(tmp_path / "a.tif")


def test_the_primary_image_of_a_photograph_is_read(tmp_path):
    frames(tmp_path / "a.jpg", format="MPO")
    with Image.open(tmp_path / "a.jpg") as picture:
        assert (picture.format, picture.n_frames) == ("MPO", 2)
    assert np.unique(read(tmp_path / "a.jpg", channels=3)).tolist() == [0]


def test_sixteen_bits_of_colour_keep_256_levels(tmp_path):
    pixels = np.stack([SIXTEEN, SIXTEEN.T, SIXTEEN[::-1]], axis=2)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert np.array_equal(read(tmp_path / "a.png", channels=3), pixels // 257)

"""Image folders that a stranger made: links, pipes, bombs, damaged pictures, and sound ones of odd kinds."""

import contextlib
import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fxgrow.data import load_data, memory
from fxgrow.data.files import shown_path
from fxgrow.data.pictures import _MAX_PIXELS, PICTURE_BYTES, SCANS, read_picture
from fxgrow.errors import ArgumentError, DataError
from tests.attacks.attacking import CANARY
from tests.attacks.hostile_data import (
    COLOURS,
    SIZE,
    assert_refused,
    is_root,
    loaded,
    write_pictures,
)

Image = pytest.importorskip("PIL.Image")
VICTIM = "train/red/0.png"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "data")


def link(path: Path) -> None:
    path.rename(path.parents[3] / "real.png")
    path.symlink_to(path.parents[3] / "real.png")


def link_outside(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


def link_to_its_folder(path: Path) -> None:
    (path.parent / "again").symlink_to("..")


def link_with_another_name(path: Path) -> None:
    (path.parent / "more").symlink_to(path.parents[1] / "blue")


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def listening(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
        Path("socket").rename(path)


def hole(path: Path) -> None:
    """A file that says it has a terabyte, none of which is there."""
    os.truncate(path, 2**40)


FILES: tuple[tuple[Callable[[Path], None], str, str], ...] = (
    (link, "symlink", "0.png"),
    (link_outside, "symlink", "0.png"),
    (link_to_itself, "symlink", "0.png"),
    (link_to_nothing, "symlink", "0.png"),
    (link_to_its_folder, "symlink", "again"),
    (link_with_another_name, "symlink", "more"),
    (device, "symlink", "0.png"),
    (pipe, "not-a-file", "0.png"),
    (listening, "not-a-file", "0.png"),
    (hole, "too-large", "0.png"),
    (Path.unlink, "no-images", "red"),
)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("damage", "code", "offender"), FILES, ids=[damage.__name__ for damage, _, _ in FILES]
)
def test_a_picture_that_is_something_else(
    damage: Callable[[Path], None], code: str, offender: str, split: str, root: Path
) -> None:
    damage(root / split / "red" / "0.png")
    assert_refused(root, code, offender)


@pytest.mark.parametrize("folder", ["train", "test", "train/red", "test/red"])
@pytest.mark.parametrize(("kind", "code"), [("link", "symlink"), ("pipe", ""), ("file", "")])
def test_a_folder_that_is_something_else(folder: str, kind: str, code: str, root: Path) -> None:
    place = root / folder
    place.rename(root.parent / "real")
    make: dict[str, Callable[[], object]] = {
        "link": lambda: place.symlink_to(root.parent / "real"),
        "pipe": lambda: os.mkfifo(place),
        "file": place.touch,
    }
    make[kind]()
    missing = "classes" if "/" in folder else "missing-directory"
    assert_refused(root, code or missing, place.name)


def test_the_root_itself_may_be_a_link(root: Path) -> None:
    Path("link").symlink_to(root)
    assert len(loaded(Path("link")).train) == 2


@pytest.mark.parametrize(
    "name", ["x" * 4000, "x" * 300, "nothing", "data/train/red/0.png", "\udcff", "\x1b[2J"]
)
def test_a_root_that_is_none(name: str, root: Path) -> None:
    assert_refused(Path(name), "missing-directory", "")


def test_a_root_with_a_null_byte(root: Path) -> None:
    with pytest.raises(ArgumentError, match="no null byte"):
        loaded(Path("\0"))


def test_a_pipe_that_is_no_picture_by_name_is_left_alone(root: Path) -> None:
    os.mkfifo(root / "train" / "red" / "notes.txt")
    os.mkfifo(root / "train" / "notes")
    assert len(loaded(root).train) == 2


def test_folders_named_like_pictures_are_folders(root: Path) -> None:
    (root / VICTIM).rename(root / "moved")
    (root / VICTIM).mkdir()
    assert_refused(root, "no-images", "red")
    (root / "moved").rename(root / VICTIM / "1.png")
    assert len(loaded(root).train) == 2


def test_deep_folders_end(root: Path) -> None:
    here, top = Path.cwd(), root / "train" / "red"
    try:
        os.chdir(top)
        for _ in range(30):
            Path("d" * 200).mkdir()
            os.chdir("d" * 200)
    finally:
        os.chdir(here)
    assert_refused(root, "unreadable", "d" * 99)


@pytest.mark.skipif(is_root(), reason="no permission stops root")
@pytest.mark.parametrize("name", [VICTIM, "train/red", "train"])
def test_what_may_not_be_read_is_named(name: str, root: Path) -> None:
    (root / name).chmod(0)
    try:
        assert_refused(root, "unreadable", name)
    finally:
        (root / name).chmod(0o700)


def test_thousands_of_classes_are_read_and_their_names_not_all_said(root: Path) -> None:
    for number in range(2000):
        folder = root / "train" / f"c{number:04}"
        folder.mkdir()
        os.link(root / VICTIM, folder / "0.png")
    message = str(assert_refused(root, "classes", "c0000"))
    assert "and 1995 more" in message
    (root / "test").rename(root / "old")
    (root / "test").mkdir()
    for folder in (root / "train").iterdir():
        (root / "test" / folder.name).mkdir()
        os.link(root / VICTIM, root / "test" / folder.name / "0.png")
    found = load_data("imagefolder", root=root, size=2)
    assert (found.classes, len(found.test)) == (2002, 2002)


@pytest.mark.parametrize(
    "name", ["\udcff\udcfe", "\x1b[2J\x1b]0;owned\x07", "\u202egpj", "two\nlines"]
)
def test_odd_names_are_read_and_said_in_plain_letters(name: str, root: Path) -> None:
    for split in ("train", "test"):
        folder = root / split / name
        folder.mkdir()
        os.link(root / VICTIM, folder / f"{name}.png")
    assert loaded(root).classes == 3
    (folder / f"{name}.png").unlink()
    assert_refused(root, "no-images", shown_path(name))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def tiff(**changed: int) -> bytes:
    """One strip or tile of grey; a tag that is changed is written over."""
    tags = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: 16} | {
        int(name.removeprefix("t")): value for name, value in changed.items()
    }
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return (
        b"II*\0"
        + struct.pack("<I", 24)
        + bytes(16)
        + struct.pack("<H", len(tags))
        + rows
        + bytes(4)
    )


def gif(width: int, height: int, frame: tuple[int, int] = (1, 1)) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02D\x01\x00;"


def bmp(width: int, height: int) -> bytes:
    head = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
    return head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def webp(kind: bytes, size: bytes) -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(size)) + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg(width: int, height: int) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (8, 8)).save(written, "JPEG")
    data = bytearray(written.getvalue())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


EXTENDED = bytes(4) + b"\xff\xff\xff" + b"\x00\x04\x00"
BOMBS: dict[str, bytes] = {
    "png": png(50_000, 50_000),
    "png, wide": png(2**31 - 1, 1),
    "png, high": png(1, 70_000),
    "gif, nearly the limit": gif(8_000, 8_000),
    "webp, nearly the limit": webp(
        b"VP8L", b"\x2f" + (7_999 | 7_999 << 14).to_bytes(4, "little") + bytes(20)
    ),
    "png, full of zeros": png(9_000, 9_000, bytes(2**20)),
    "tiff": tiff(t256=60_000, t257=60_000),
    "tiff, wide": tiff(t256=2**31, t257=1),
    "tiff, tiles": tiff(t322=60_000, t323=60_000, t324=8, t325=16),
    "gif": gif(65_535, 65_535),
    "gif, frame": gif(1, 1, (65_535, 65_535)),
    "bmp": bmp(60_000, 60_000),
    "bmp, upside down": bmp(60_000, -60_000),
    "ppm": b"P6 60000 60000 255\n",
    "pgm": b"P5 99999999 9 65535\n",
    "jpeg": jpeg(65_000, 65_000),
    "webp, lossy": webp(b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383)),
    "webp, lossless": webp(b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(20)),
    "webp, extended": webp(b"VP8X", EXTENDED),
    "webp, animated": webp(b"VP8X", b"\x02" + EXTENDED[1:]),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_not_unpacked(bomb: str, root: Path) -> None:
    (root / VICTIM).write_bytes(BOMBS[bomb])
    assert_refused(root, "too-large", VICTIM)


def test_a_text_bomb_in_a_picture_is_not_unpacked(root: Path) -> None:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**27)))
    (root / VICTIM).write_bytes(
        png(1, 1, bytes(4)).replace(b"\0\0\0\rIHDR", b"\0\0\0\rIHDR", 1)[:33] + text
    )
    assert_refused(root, "wrong-format", VICTIM)


def test_the_largest_side_and_no_more(root: Path) -> None:
    assert _MAX_PIXELS >= 61_000_000
    (root / VICTIM).write_bytes(png(2**16 + 1, 1))
    assert_refused(root, "too-large", VICTIM)
    (root / VICTIM).write_bytes(png(2**16, 1, bytes(1 + 3 * 2**16)))
    assert len(loaded(root).train) == 2


def postscript() -> bytes:
    """Which Pillow would hand to another program."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(canary) (w) file closefile\n"


def scans() -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (64, 64)).save(written, "JPEG", progressive=True)
    data = written.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (SCANS + 1) + b"\xff\xd9"


BROKEN: dict[str, bytes] = {
    "no byte": b"",
    "one byte": b"\x89",
    "a text": b"not a picture",
    "zeros": bytes(1000),
    "a signature": b"\x89PNG\r\n\x1a\n",
    "a picture without pixels": png(3, 3),
    "no size": png(0, 0),
    "cut off": png(100, 100, bytes(100 * 301))[:60],
    "half of a jpeg": jpeg(8, 8)[:-30],
    "a directory that leads into itself": tiff()[:-4] + struct.pack("<I", 24) + b"",
    "a tag outside": tiff(t273=2**31),
    "numbers as text": b"P3 2 2 255\n" + b"1 " * 12,
    "comments without end": b"P2 2 2 255\n" + b"#\n" * 500_000,
    "postscript": postscript(),
    "many scans": scans(),
    "webp, cut off": webp(b"VP8X", EXTENDED)[:20],
}
SOUND_AFTER_ALL = {"a directory that leads into itself"}


@pytest.mark.parametrize("damage", BROKEN)
def test_damaged_pictures_are_named(damage: str, root: Path) -> None:
    (root / VICTIM).write_bytes(BROKEN[damage])
    if damage in SOUND_AFTER_ALL:
        assert len(loaded(root).train) == 2
    else:
        assert_refused(root, "wrong-format", VICTIM)


REASONS = {
    "postscript": "cannot identify image file",
    "many scans": f"a JPEG of more than {SCANS} scans",
    "comments without end": "its pixels are written as text",
}


@pytest.mark.parametrize("damage", REASONS)
def test_what_takes_time_or_programs_is_not_begun(damage: str, root: Path) -> None:
    (root / VICTIM).write_bytes(BROKEN[damage])
    assert REASONS[damage] in str(assert_refused(root, "wrong-format", VICTIM))


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG"])
def test_every_cut_of_a_picture_is_refused_or_does_not_matter(form: str, root: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    path = root / VICTIM
    Image.fromarray(pixels).save(path, form)
    data, whole = path.read_bytes(), read_picture(path, SIZE)
    read = 0
    for end in range(0, len(data), 5):
        path.write_bytes(data[:end])
        with contextlib.suppress(DataError):
            assert torch.equal(read_picture(path, SIZE), whole)
            read += 1
    assert read < 10


LEVELS = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)


def of_mode(mode: str) -> Any:
    """Red in a mode of Pillow."""
    return Image.new("RGB", (9, 7), COLOURS["red"]).convert(mode)


SOUND: dict[str, tuple[Any, str, tuple[int, int, int]]] = {
    "palette": (lambda: of_mode("P"), "PNG", (255, 0, 0)),
    "palette in a gif": (lambda: of_mode("P"), "GIF", (255, 0, 0)),
    "cmyk": (lambda: of_mode("CMYK"), "TIFF", (255, 0, 0)),
    "alpha": (lambda: Image.new("RGBA", (9, 7), (255, 0, 0, 128)), "PNG", (255, 0, 0)),
    "alpha in webp": (lambda: Image.new("RGBA", (9, 7), (77, 77, 77, 128)), "WEBP", (77, 77, 77)),
    "grey and alpha": (lambda: Image.new("LA", (9, 7), (77, 128)), "PNG", (77, 77, 77)),
    "grey": (lambda: Image.new("L", (9, 7), 77), "PNG", (77, 77, 77)),
    "one bit": (lambda: Image.new("1", (9, 7), 1), "PNG", (255, 255, 255)),
    "16 bits": (lambda: Image.fromarray(np.full((7, 9), 77 * 257, np.uint16)), "PNG", (77, 77, 77)),
    "16 bits in a tiff": (
        lambda: Image.fromarray(np.full((7, 9), 77 * 257, np.uint16)),
        "TIFF",
        (77, 77, 77),
    ),
    "16 bits in a pgm": (
        lambda: Image.fromarray(np.full((7, 9), 77 * 257, np.uint16)),
        "PPM",
        (77, 77, 77),
    ),
}


@pytest.mark.parametrize("kind", SOUND)
def test_sound_pictures_of_odd_kinds_are_right(kind: str, root: Path) -> None:
    make, form, colour = SOUND[kind]
    make().save(root / VICTIM, form)
    found = read_picture(root / VICTIM, SIZE)
    assert found.shape == (3, SIZE, SIZE)
    assert torch.equal(found.float().mean((1, 2)).round(), torch.tensor(colour).float())
    loaded(root)


def test_16_bits_are_not_cut_off_at_255(root: Path) -> None:
    Image.fromarray(LEVELS.repeat(5, 0)).save(root / VICTIM)
    assert read_picture(root / VICTIM, 5)[0, 0].tolist() == [0, 0, 0, 127, 255]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_white_are_refused(mode: str, root: Path) -> None:
    Image.new(mode, (4, 4), 1000).save(root / VICTIM, "TIFF")
    assert_refused(root, "wrong-format", VICTIM)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_picture_is_taken(form: str, root: Path) -> None:
    frames = [
        Image.new("RGB", (9, 7), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    ]
    options = {"lossless": True} if form == "WEBP" else {}
    frames[0].save(root / VICTIM, form, save_all=True, append_images=frames[1:], **options)
    assert read_picture(root / VICTIM, 1).flatten().tolist() == [255, 0, 0]


def test_the_same_pictures_as_torchvision(root: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    functional = pytest.importorskip("torchvision.transforms.functional")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 23, 31, 4), dtype=np.uint8)
    for path in (
        "train/blue/b/z.jpg",
        "train/blue/b-c/a.png",
        "train/blue/b/c/a.png",
        "train/blue/a.webp",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0, ..., :3]).save(root / path)
    Image.fromarray(pixels[1]).save(root / VICTIM)
    theirs = datasets.ImageFolder(str(root / "train"))
    found = load_data("imagefolder", root=root, size=SIZE)
    mean, std = (torch.tensor(values)[:, None, None] for values in (found.mean, found.std))
    ours = ((found.train.images * std + mean) * 255).round().to(torch.uint8)
    order = torch.randperm(len(theirs), generator=torch.Generator().manual_seed(0)).tolist()
    for place, index in enumerate(order):
        small = functional.pil_to_tensor(functional.resize(theirs[index][0], [SIZE, SIZE]))
        assert torch.equal(ours[place], small)
        assert found.train.labels[place] == theirs[index][1]


@pytest.mark.parametrize("size", [10**5, 10**6, 10**12])
@pytest.mark.parametrize("name", ["imagefolder", "digits", "shapes"])
def test_a_size_over_the_memory_is_refused_with_the_bytes(
    name: str, size: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "digits":
        pytest.importorskip("sklearn")
    monkeypatch.setattr("fxgrow.memory.available_memory", lambda _: 2**34)
    with pytest.raises(DataError) as caught:
        load_data(
            name,
            root=root if name == "imagefolder" else None,
            size=size,
            train_size=20,
            test_size=20,
        )
    count = 4 if name == "imagefolder" else 40
    assert caught.value.code == "too-large"
    assert f"{count * 3 * size * size * 4 * memory._COPIES} bytes" in str(caught.value)


def test_more_shapes_than_memory_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        load_data("shapes", train_size=10**15)
    assert caught.value.code == "too-large"
    with pytest.raises(DataError) as caught:
        load_data("shapes", channels=10**12, train_size=10, test_size=10)
    assert caught.value.code == "too-large"


def test_nothing_was_run() -> None:
    assert PICTURE_BYTES < 2**30
    assert not CANARY.exists()

"""Smaller pictures (Client-Server API, "Thumbnails"): pure, and for a thread, since each takes a while."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from identity_server.matrix.errors import MatrixError

Method = Literal["crop", "scale"]

# The library's own guard warns, and fails late; we look at the dimensions before anything is decoded.
Image.MAX_IMAGE_PIXELS = None
_MOST_PIXELS = 50_000_000
_MOST_ANIMATED_PIXELS = 25_000_000
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
_JPEG_QUALITY = 80

CROPPED = ((32, 32), (96, 96))
SCALED = ((320, 240), (640, 480), (800, 600))


class NoThumbnail(MatrixError):
    """The content is no picture that we can read."""


class PictureTooLarge(MatrixError):
    status = 413
    errcode = "M_TOO_LARGE"


@dataclass(frozen=True)
class Wanted:
    """``width`` and ``height`` are the least that the client would like."""

    width: int
    height: int
    method: Method
    animated: bool

    @property
    def is_usual(self) -> bool:
        """Whether it is one of the sizes that are worth keeping: others could be asked for without end."""
        return (self.width, self.height) in (CROPPED if self.method == "crop" else SCALED)

    @property
    def name(self) -> str:
        return f"{self.width}x{self.height}-{self.method}{'-animated' if self.animated else ''}"

    def usual(self) -> "Wanted":
        """The next of the usual sizes that is no smaller and has the same shape; itself, where there is none."""
        for width, height in CROPPED if self.method == "crop" else SCALED:
            fits = width >= self.width and height >= self.height
            if fits and (self.method == "scale" or self.width == self.height):
                return Wanted(width, height, self.method, self.animated)
        return self


@dataclass(frozen=True)
class Thumbnail:
    content_type: str
    content: bytes


def make_thumbnail(path: Path, wanted: Wanted) -> Thumbnail | None:
    """None if the content itself is to be served, since it is not larger.

    Raises ``NoThumbnail`` and ``PictureTooLarge``.
    """
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            width, height = picture.size
            if width * height > _MOST_PIXELS:
                raise PictureTooLarge("The picture is too large for a thumbnail")
            frames = getattr(picture, "n_frames", 1)
            moves = frames > 1
            if moves and wanted.animated and width * height * frames <= _MOST_ANIMATED_PIXELS:
                return None if _is_small(picture.size, wanted) else _animated(picture, wanted)
            if _is_small(picture.size, wanted) and not moves:
                return None
            if picture.format == "JPEG":
                picture.draft("RGB", (wanted.width, wanted.height))  # decodes no more than is needed
            return _encoded(_resized(ImageOps.exif_transpose(picture), wanted))
    except PictureTooLarge:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise NoThumbnail("Cannot generate thumbnails for the requested content") from error


@dataclass(frozen=True)
class Picture:
    content_type: str
    width: int
    height: int


def picture_of(content: bytes) -> Picture:
    """What ``content`` is, as itself says. Raises ``NoThumbnail``."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            return Picture(Image.MIME[picture.format or ""], *picture.size)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, MemoryError, KeyError) as error:
        raise NoThumbnail("The content is no picture") from error


def _is_small(size: tuple[int, int], wanted: Wanted) -> bool:
    return size[0] <= wanted.width and size[1] <= wanted.height


def _resized(picture: Image.Image, wanted: Wanted) -> Image.Image:
    """No dimension gets smaller than is wanted, nor larger than it is."""
    if picture.mode not in ("RGB", "RGBA", "L"):
        has_alpha = "A" in picture.mode or "transparency" in picture.info
        picture = picture.convert("RGBA" if has_alpha else "RGB")
    width, height = picture.size
    if wanted.method == "crop":
        size = min(wanted.width, width), min(wanted.height, height)
        return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
    factor = min(1.0, max(wanted.width / width, wanted.height / height))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return picture.resize(size, Image.Resampling.LANCZOS) if factor < 1 else picture.copy()


def _encoded(picture: Image.Image) -> Thumbnail:
    file = io.BytesIO()
    if picture.mode == "RGBA":
        picture.save(file, "PNG", optimize=False)
        return Thumbnail("image/png", file.getvalue())
    picture.save(file, "JPEG", quality=_JPEG_QUALITY)
    return Thumbnail("image/jpeg", file.getvalue())


def _animated(picture: Image.Image, wanted: Wanted) -> Thumbnail:
    frames: list[Image.Image] = []
    durations: list[int] = []
    for frame in ImageSequence.Iterator(picture):
        durations.append(int(frame.info.get("duration", 100)))
        frames.append(_resized(frame.convert("RGBA"), wanted))
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return Thumbnail("image/webp", file.getvalue())

"""The bytes of one file → the pixels of one picture, or the reason why there are none."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from attention.data.trees import Unreadable

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
RESIZE = ("squash", "crop")


def header(content: bytes) -> Image.Image:
    """The picture, of which only the header is decoded; Unreadable if it is none that is read."""
    with _reasons():
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.format == "PNG" and content[24] > 8:  # the bit depth, in the header
            raise Unreadable("has 16 bits a channel, of which 8 would be lost: save it with 8")
        if image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
            raise Unreadable("is an animation, of which only the first picture would be read")
    return image


def pixels(image: Image.Image, size: int | None, resize: str) -> np.ndarray:
    """uint8 (3,H,W): upright, in RGB, of size × size pixels; size None: as large as it is.

    resize: "squash", both sides become `size`; "crop": the shorter side does, and the middle stays.
    """
    with _reasons():
        image = ImageOps.exif_transpose(image)  # photographs lie on their side without it
        if "transparency" in image.info:
            image = image.convert("RGBA")
        image = image.convert("RGB")
        if size is not None and resize == "crop":
            image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
        elif size is not None:
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(image).transpose(2, 0, 1)


@contextmanager
def _reasons() -> Iterator[None]:
    """Whatever Pillow raises, which is nearly anything, as Unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Exif that is damaged, where the pixels are not
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Unreadable, MemoryError):
        raise
    except UnidentifiedImageError as error:  # it names an address in memory
        raise Unreadable("is no JPEG, PNG, WebP or BMP image") from error
    except Exception as error:
        raise Unreadable(f"is no readable image ({' '.join(str(error).split())})") from error

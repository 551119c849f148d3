"""Pictures as a task takes them: three colours of eight bits, checked before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.tasks.folder import INSTALL


def picture(given: Any) -> Any:
    """An upright PIL image in mode RGB.

    given: a PIL image, or the path of a file. Nothing is converted here: only the owner can say what lies
    behind a transparent picture, or how to colour a grey one. Raises InputError for a file that cannot be
    read, for any other mode, and for any other type.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ConfigError("pictures need the library Pillow", f"install it: {INSTALL}") from error
    if isinstance(given, (str, Path)):
        path = Path(given)
        if not path.is_file():
            raise InputError(f"there is no file {path}", "pass the path of a picture, or a PIL image")
        try:
            with Image.open(path) as file:
                image = ImageOps.exif_transpose(file)
                image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"cannot read {path}: {error}", "pass a picture that Pillow can open") from error
    elif isinstance(given, Image.Image):
        image = given
    else:
        raise InputError(
            f"expected a picture, got {type(given).__name__}",
            "pass a path or a PIL image; for an array of bytes (height, width, 3): Image.fromarray(array)",
        )
    if image.mode != "RGB":
        raise InputError(
            f"the picture is in mode {image.mode}, but the model takes RGB",
            "convert it: Image.open(path).convert('RGB'), after giving transparent parts a background",
        )
    return image


def picture_of(array: np.ndarray) -> Any:
    """The PIL image of these bytes (height, width, 3). InputError for any other shape."""
    if array.shape[-1] != 3 or array.size == 0:
        raise InputError(
            f"an array of shape {array.shape} is not a picture",
            "pass bytes (height, width, 3): red, green, blue",
        )
    from PIL import Image

    return Image.fromarray(array)

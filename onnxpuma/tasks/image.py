"""Pictures as a task takes them: three eight-bit colours, checked before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.tasks.folder import INSTALL


def picture(given: Any) -> Any:
    """A PIL image in the mode RGB, upright.

    given: a PIL image, or the path of a file. Colours are neither made up nor discarded here: the picture's
    owner decides about the ground behind transparency, or about grey. Raises InputError for a file that
    cannot be read, for any other mode, and for anything else.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ConfigError("pictures need the library Pillow", f"install it: {INSTALL}") from error
    if isinstance(given, (str, Path)):
        path = Path(given)
        if not path.is_file():
            raise InputError(f"there is no file {path}", "give the path of a picture, or a PIL image")
        try:
            with Image.open(path) as file:
                image = ImageOps.exif_transpose(file)
                image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"cannot read {path}: {error}", "give a picture that Pillow opens") from error
    elif isinstance(given, Image.Image):
        image = given
    else:
        raise InputError(
            f"a {type(given).__name__} is not a picture",
            "give a path or a PIL image; of an array of bytes (height, width, 3): Image.fromarray(array)",
        )
    if image.mode != "RGB":
        raise InputError(
            f"the picture is of mode {image.mode}, the model sees RGB",
            "convert it: Image.open(path).convert('RGB'); first put transparent parts on a ground",
        )
    return image


def picture_of(array: np.ndarray) -> Any:
    """The PIL image of these bytes (height, width, 3). InputError for any other shape."""
    if array.shape[-1] != 3 or array.size == 0:
        raise InputError(
            f"an array of shape {array.shape} is not a picture",
            "give bytes (height, width, 3): red, green, blue",
        )
    from PIL import Image

    return Image.fromarray(array)

"""Pictures that strangers send: what is taken, and what is refused for what it shows."""

from __future__ import annotations

from PIL import Image

from components.config import ServingConfig
from components.content import ContentCheck, ContentError, input_check
from components.data.decode import TooLargeError, decode_picture
from components.errors import DataError

#: Pillow's names of the formats that are taken. No other decoder sees what was sent.
FORMATS = ("PNG", "JPEG", "WEBP")


class UploadReader:
    """Makes pictures of bytes without trusting them; several threads may do so at the same time.

    Args:
        check: what the pictures have to pass; by default what the policy says.
    """

    def __init__(self, config: ServingConfig, check: ContentCheck | None = None) -> None:
        self._max_pixels = config.max_upload_pixels
        self._check = check or input_check(config.content)

    def __call__(self, data: bytes, field: str) -> Image.Image:
        """The picture, upright and RGB.

        Args:
            field: where in the request it was, for the error.

        Raises:
            DataError: it is no still PNG, JPEG or WebP, is damaged, too small, or has more pixels than it may have by
                its header.
            ContentError: it shows what the policy refuses.
        """
        picture = self._decode(data, field)
        if self._check is not None and not self._check(picture):
            raise ContentError(f"{field}: refused by the content policy of this service")
        return picture

    def _decode(self, data: bytes, field: str) -> Image.Image:
        try:
            return decode_picture(data, self._max_pixels, FORMATS)
        except TooLargeError:
            raise DataError(f"{field}: more than {self._max_pixels:,} pixels") from None
        except DataError as error:
            raise DataError(f"{field}: {error}; send a still PNG, JPEG or WebP") from None

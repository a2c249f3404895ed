"""The content of an exported book: a story's visible panels with their chosen takes, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from components.errors import RealCustomError
from components.stories.story import Balloon, PagesLayout, Story, Take


class NothingToExportError(RealCustomError):
    """No visible panel has a chosen take."""


#: Signs a file of a MIME type that shows the PNG files that these read, see `CompositeSigner`.
SignComposite = Callable[[bytes, str, Sequence[Callable[[], bytes]]], bytes]


@dataclass(frozen=True)
class BookPanel:
    """A panel of a book; ``picture`` reads the image file of its take."""

    take: Take
    caption: str
    balloons: tuple[Balloon, ...]
    picture: Callable[[], bytes]


@dataclass(frozen=True)
class Book:
    title: str
    style: str
    language: str
    pages: PagesLayout
    panels: tuple[BookPanel, ...]
    sign: SignComposite | None = None

    def signed(self, data: bytes, mime: str, panels: Sequence[BookPanel]) -> bytes:
        """A file that shows ``panels``, with a manifest that includes their images' if the book is signed."""
        return data if self.sign is None else self.sign(data, mime, [panel.picture for panel in panels])


def make_book(
    story: Story,
    picture: Callable[[str], bytes],
    pages: PagesLayout | None = None,
    sign: SignComposite | None = None,
) -> Book:
    """Make the book of a story; hidden panels and panels without a chosen take are left out.

    Args:
        picture: reads the image file of a take.
        pages: by default the story's own.
        sign: adds a signed manifest to pages and documents; by default they have none.

    Raises:
        NothingToExportError: no panel is left.
    """
    shown = []
    for panel in story.panels:
        take = panel.chosen_take
        if take is not None and not panel.hidden:
            shown.append(BookPanel(take, panel.caption, panel.balloons, _reader(picture, take.id)))
    if not shown:
        raise NothingToExportError("the story has no picture to export: draw its panels first")
    return Book(story.title, story.style, story.language, pages or story.pages, tuple(shown), sign)


def _reader(picture: Callable[[str], bytes], take: str) -> Callable[[], bytes]:
    return lambda: picture(take)

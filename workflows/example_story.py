"""The example story that the quickstart creates for the studio: two characters and four panels."""

from __future__ import annotations

import random

from components.client import Client, Story
from components.config import Config
from components.pictures import to_png
from components.world.identities import sample_identity
from components.world.scenes import draw_reference

_TITLE = "Two friends"
#: Kind of subject in the toy world, and name.
_CAST = (("robot", "Bolt"), ("cat", "Miso"))
#: Prompt and caption of each panel.
_PANELS = (
    ("a photo of @Bolt on the beach", "Bolt looked at the sea all day."),
    ("a photo of @Miso in the snow", "Miso came by through the snow."),
    ("a photo of @Bolt and @Miso on the beach", "They met where the sand was warm."),
    ("a photo of @Bolt and @Miso at night", "And they stayed until night."),
)


def make_example(client: Client, config: Config, timeout_s: float = 600.0) -> Story:
    """Create the story with its characters and generate its panels; an existing one is returned unchanged.

    Raises:
        TimeoutError: the panels are not generated within ``timeout_s`` seconds.
    """
    for story in client.stories.list():
        if story.title == _TITLE:
            return story
    known = {character.name for character in client.characters.list()}
    rng = random.Random(config.seed + 2)
    for kind, name in _CAST:
        picture = draw_reference(sample_identity(rng, "held_out", kind), 2 * config.vision.view_size, rng)
        if name not in known:
            client.characters.create(name, to_png(picture), "", kind)  # what it looks like is read off the picture
    story = client.stories.create(_TITLE)
    client.stories.add_panels(story.id, [{"prompt": prompt, "caption": caption} for prompt, caption in _PANELS])
    client.stories.draw(story.id)
    *_, finished = client.stories.wait(story.id, timeout_s)
    return finished

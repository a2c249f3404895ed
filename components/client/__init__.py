"""The service from Python, over HTTP.

    client = Client("http://127.0.0.1:8000", api_key="rc-...")
    rob = client.characters.create("Rob", ["rob.png"], description="a red robot with a hat")
    pictures = client.generate("a robot on the beach", characters=[rob], n=2, seed=7)
    pictures[0].save("beach.png")

The official `openai` client works too, with the service's URL and ``/v1`` as its ``base_url``.
"""

from __future__ import annotations

from components.client.client import Client
from components.client.fields import Choice, Control, Options
from components.client.responses import Character, DayUsage, Job, JobEvent, Picture, Pictures, Usage
from components.client.stories import Panel, Story, Take
from components.client.transport import ServiceError

__all__ = [
    "Character",
    "Choice",
    "Client",
    "Control",
    "DayUsage",
    "Job",
    "JobEvent",
    "Options",
    "Panel",
    "Picture",
    "Pictures",
    "ServiceError",
    "Story",
    "Take",
    "Usage",
]

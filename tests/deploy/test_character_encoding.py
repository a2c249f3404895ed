"""A new or changed character is encoded in the background, once, and before its first picture is drawn."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from components.errors import NotFoundError
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from deploy.interfaces.errors import UnavailableError
from tests.deploy.test_serving_app import photograph
from tests.deploy.test_serving_metrics import one
from tests.deploy.test_serving_rollout import configured
from tests.fakes.in_process_service import RunningService, running_service
from tests.fakes.pipeline import FakePipeline

FORM = {"name": "Rob", "description": "a red robot"}


def upload() -> list[tuple[str, tuple[str, bytes]]]:
    return [("pictures", ("rob.png", photograph()))]


async def count(service: RunningService, source: str) -> float:
    page = (await service.client.get("/metrics")).text
    try:
        return one(page, "realcustom_subject_tokens_total", source=source)
    except KeyError:
        return 0


async def until_computed(service: RunningService, number: int) -> None:
    async with asyncio.timeout(20):
        while await count(service, "computed") < number:
            await asyncio.sleep(0.02)


def test_new_and_changed_images_are_encoded_before_they_are_drawn(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_service(configured(tmp_path)) as service:
            created = await service.client.post("/v1/characters", data=FORM, files=upload())
            await until_computed(service, 1)
            path = f"/v1/characters/{created.json()['id']}/pictures"
            added = await service.client.post(path, files=upload())
            await until_computed(service, 2)
            first, second = (each["id"] for each in added.json()["pictures"])
            assert (await service.client.patch(f"{path}/{second}", json={"box": [0, 0, 20, 20]})).status_code == 200
            await until_computed(service, 3)
            assert (await service.client.delete(f"{path}/{first}")).status_code == 200
            await until_computed(service, 4)
            drawn = await service.draw(characters=[{"id": created.json()["id"]}])
            assert drawn.status_code == 200
            await asyncio.sleep(0.3)
            assert (await count(service, "computed"), await count(service, "kept")) == (4, 1)

    asyncio.run(run())


class HeldPipeline(FakePipeline):
    """Encodes when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.may = threading.Event(), threading.Event()

    def encode_subject(self, pictures: list[Any]) -> Any:
        self.begun.set()
        assert self.may.wait(20)
        return super().encode_subject(pictures)


def test_a_picture_waits_for_the_running_encoding(tmp_path: Path) -> None:
    """Also if whoever has begun it is gone."""
    characters, pipeline = CharacterService(configured(tmp_path)), HeldPipeline()
    service = GenerationService(pipeline, characters)

    async def run() -> None:
        stored = await characters.create("Rob", "a red robot", "robot", [photograph()], [None])
        begun = asyncio.create_task(service.encode_character(stored.id, stored.revision))
        await asyncio.to_thread(pipeline.begun.wait, 20)
        others = [asyncio.create_task(service.encode_character(stored.id, stored.revision)) for _ in range(3)]
        await asyncio.sleep(0.05)
        begun.cancel()
        pipeline.may.set()
        await asyncio.gather(*others)
        assert pipeline.encoded == 1
        await service.encode_character(stored.id, stored.revision)
        assert pipeline.encoded == 1, "the tokens are stored"
        with pytest.raises(NotFoundError):
            await service.encode_character("char_" + "0" * 24, 1)
        service.close()
        fresh = await characters.create("Bob", "a blue robot", "robot", [photograph()], [None])
        with pytest.raises(UnavailableError):
            await service.encode_character(fresh.id, fresh.revision)

    asyncio.run(run())


def test_tokens_that_were_stored_while_they_were_looked_for_are_not_computed_again(tmp_path: Path) -> None:
    characters, pipeline = CharacterService(configured(tmp_path)), FakePipeline()
    service = GenerationService(pipeline, characters)

    async def run() -> None:
        stored = await characters.create("Rob", "a red robot", "robot", [photograph()], [None])
        look, looked, may = characters.tokens, asyncio.Event(), asyncio.Event()

        async def slow(*arguments: Any) -> Any:
            found = await look(*arguments)
            looked.set()
            await may.wait()
            return found

        characters.tokens = slow  # type: ignore[method-assign]
        late = asyncio.create_task(service.encode_character(stored.id, stored.revision))
        await looked.wait()
        characters.tokens = look  # type: ignore[method-assign]
        await service.encode_character(stored.id, stored.revision)
        may.set()
        await late
        assert pipeline.encoded == 1

    asyncio.run(run())


def test_a_character_is_stored_without_a_generator(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its tokens are then computed for its first picture."""

    async def run() -> None:
        async with running_service(configured(tmp_path)) as service:
            working = service.generator.encode_character

            async def refuse(*_: Any) -> None:
                raise UnavailableError("no generator is there")

            service.generator.encode_character = refuse  # type: ignore[method-assign]
            created = await service.client.post("/v1/characters", data=FORM, files=upload())
            assert created.status_code == 201
            await asyncio.sleep(0.1)
            service.generator.encode_character = working  # type: ignore[method-assign]
            drawn = await service.draw(characters=[{"id": created.json()["id"]}])
            assert drawn.status_code == 200, json.dumps(drawn.json())
            await asyncio.sleep(0.3)
            assert await count(service, "computed") == 1

    asyncio.run(run())

"""Versions come and go while requests are drawn: none fails, each is drawn by one version, and the answer names it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.config import Config, RolloutConfig, load_config
from components.errors import ArtifactError, ConfigError
from components.model.adapter import RealCustomAdapter
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.provenance.image_files import ModelName, PictureWriter
from deploy import app
from deploy.generator.rollout import ModelVersions, VersionAliases, select_version
from deploy.generator.service import GenerationService
from deploy.interfaces.errors import BusyError, UnavailableError
from deploy.interfaces.requests import GenerationRequest
from deploy.status.readiness import UnhealthyError
from deploy.status.replica_status import ReplicaReport, ReplicaStatus
from tests.deploy.test_serving_generator import StoredTokens
from tests.fakes.in_process_service import RunningService, generators, running_service, wait_until
from tests.fakes.pipeline import BROKEN, FakePipeline, point

REQUEST = GenerationRequest("a robot", "", 64, 64, 3, 3.5, (1,), (), None)
OLD, NEW = "7", "8"


def configured(tmp_path: Path, *overrides: str) -> Config:
    return load_config("tiny", [f"serving.store={tmp_path}/store", "serving.rollout.poll_s=0.02", *overrides])


def replica_of(*tried: str, rollout: RolloutConfig = RolloutConfig(poll_s=1), first: str = OLD) -> ModelVersions:
    """A replica over the fake pipeline; it serves the first version of ``tried`` that can be loaded, or ``first``."""

    def load(version: str, beside: GenerationService | None) -> GenerationService:
        if version == BROKEN:
            raise ArtifactError("model.adapter was trained with other vision encoders")
        write = PictureWriter(ModelName("realcustom-tiny", version))
        return GenerationService(FakePipeline(f"fake-{version}"), StoredTokens(), write=write)

    return ModelVersions(load, [*tried, first], rollout)


# Which version draws


@given(st.text(min_size=1, max_size=20), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_an_owner_stays_with_one_version_whatever_they_ask(owner: str, seed: int, other: int, share: float) -> None:
    both = VersionAliases(OLD, NEW)
    first, second = (select_version(both, replace(REQUEST, owner=owner, seeds=(s,)), share) for s in (seed, other))
    assert first == second
    assert select_version(VersionAliases(OLD), replace(REQUEST, owner=owner), share) == OLD


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_takes_nobody_away_from_the_challenger(seed: int, one: float, other: float) -> None:
    request, both = replace(REQUEST, seeds=(seed,)), VersionAliases(OLD, NEW)
    less, more = sorted((one, other))
    assert select_version(both, request, less) == OLD or select_version(both, request, more) == NEW
    assert select_version(both, request, 0) == OLD and select_version(both, request, 1) == NEW


def test_the_challenger_gets_its_share() -> None:
    drawn = Counter(
        select_version(VersionAliases(OLD, NEW), replace(REQUEST, seeds=(seed,)), 0.1) for seed in range(5000)
    )
    assert 0.08 < drawn[NEW] / 5000 < 0.12


def test_a_share_for_the_challenger_needs_two_versions_at_a_time() -> None:
    for setting in ("serving.rollout.beside=false", "serving.rollout.poll_s=0"):
        with pytest.raises(ConfigError, match="canary needs"):
            load_config("tiny", ["serving.rollout.canary=0.1", setting])


# How versions change


def test_no_request_fails_while_the_alias_moves_back_and_forth(tmp_path: Path) -> None:
    config = configured(tmp_path)
    answers: list[tuple[str, int, str]] = []

    async def ask(service: RunningService, until: asyncio.Event, client: int) -> None:
        number = 0
        while not until.is_set():
            prompt = "a slow robot" if client == 0 else "a robot"
            answer = await service.draw(prompt, seed=number)
            answers.append((answer.headers.get("X-Error-Code", ""), answer.status_code, answer.json()["model_version"]))
            number += 1

    async def move() -> int:
        async with running_service(config) as service:
            ended = asyncio.Event()
            clients = [asyncio.create_task(ask(service, ended, client)) for client in range(4)]
            while not answers:
                await asyncio.sleep(0.02)
            for version in (NEW, OLD, NEW, OLD):
                point(config, champion=version)
                await service.until_version(version)
                await asyncio.sleep(0.4)
            ended.set()
            await asyncio.gather(*clients)
            assert service.loads == [OLD, NEW], "the way back takes no time"
            page = (await service.client.get("/metrics")).text
            assert 'realcustom_rollouts_total{outcome="switched",replica="generator-1"} 4.0' in page
        return len(answers)

    assert asyncio.run(move()) > 10
    assert {(code, status) for code, status, _ in answers} == {("", 200)}
    assert [version for version, _ in groupby(v for *_, v in answers)][:2] == [OLD, NEW]
    assert {version for *_, version in answers} == {OLD, NEW}


def test_what_was_begun_is_ended_by_the_version_that_began_it() -> None:
    async def switch() -> None:
        replica = replica_of(rollout=RolloutConfig(poll_s=1, keep=0))
        begun = asyncio.create_task(replica.generate(replace(REQUEST, prompt="a slow robot")))
        await asyncio.sleep(0.1)
        await replica.set_aliases(VersionAliases(NEW))
        assert [s.version for s in replica.versions()] == [OLD, NEW], "it is drawing"
        drawn = await replica.generate(REQUEST)
        assert drawn.model_version == NEW and not begun.done()
        assert (await begun).model_version == OLD
        await asyncio.sleep(0.1)
        assert [(s.version, s.role) for s in replica.versions()] == [(NEW, "champion")], "nothing is kept of it"
        assert await replica.close(10)

    asyncio.run(switch())


def test_as_many_old_versions_stay_as_are_to_be_kept() -> None:
    async def switch() -> None:
        replica = replica_of(rollout=RolloutConfig(poll_s=1, keep=1))
        for version in ("8", "9", "8", "10"):
            await replica.set_aliases(VersionAliases(version))
        assert [(s.version, s.role) for s in replica.versions()] == [("8", "kept"), ("10", "champion")]
        assert await replica.close(10)

    asyncio.run(switch())


def test_a_version_that_cannot_be_loaded_changes_nothing(tmp_path: Path) -> None:
    config = configured(tmp_path)

    async def promote() -> None:
        async with running_service(config) as service:
            point(config, champion=BROKEN)
            while service.loads != [OLD, BROKEN]:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            assert service.loads == [OLD, BROKEN], "it is not tried at every look"
            assert (await service.draw()).json()["model_version"] == OLD
            point(config)  # the alias is gone
            await asyncio.sleep(0.1)
            point(config, champion=NEW)
            await service.until_version(NEW)
            assert 'outcome="failed"' in (await service.client.get("/metrics")).text

    asyncio.run(promote())


def test_a_replica_that_cannot_load_what_is_named_serves_what_it_was_built_with() -> None:
    async def begin() -> None:
        replica = replica_of(BROKEN)
        assert [s.version for s in replica.versions()] == [OLD]
        with pytest.raises(ArtifactError):
            replica_of(first=BROKEN)
        assert await replica.close(10)

    asyncio.run(begin())


def test_the_new_champion_stays_loaded_while_the_challenger_loads() -> None:
    """With ``keep=0`` a request that ended meanwhile unloaded it, and all later ones failed."""
    loading, go_on = threading.Event(), threading.Event()

    def load(version: str, beside: GenerationService | None) -> GenerationService:
        if version == "9":
            loading.set()
            assert go_on.wait(10)
        write = PictureWriter(ModelName("realcustom-tiny", version))
        return GenerationService(FakePipeline(), StoredTokens(), write=write)

    async def promote() -> None:
        replica = ModelVersions(load, [OLD], RolloutConfig(poll_s=1, keep=0, canary=0.5))
        moving = asyncio.create_task(replica.set_aliases(VersionAliases(NEW, "9")))
        await asyncio.to_thread(loading.wait, 10)
        assert (await replica.generate(REQUEST)).model_version == OLD
        go_on.set()
        await moving
        drawn = {(await replica.generate(replace(REQUEST, seeds=(seed,)))).model_version for seed in range(20)}
        assert drawn == {NEW, "9"} and {v.version for v in replica.versions()} == {NEW, "9"}
        assert await replica.close(10)

    asyncio.run(promote())


def test_where_two_do_not_fit_one_replica_at_a_time_is_replaced() -> None:
    """All of them at once are an outage."""
    now = [0.0]
    status = ReplicaStatus(keep_s=10, clock=lambda: now[0])
    rollout = RolloutConfig(poll_s=1, beside=False)

    def new_replica(name: str, version: str) -> ModelVersions:
        replica = replica_of(rollout=rollout, first=version)
        replica._may_be_replaced = partial(status.may_be_replaced, "generator", name)
        return replica

    def unhealthy(replicas: dict[str, ModelVersions]) -> list[str]:
        found = []
        for name, replica in replicas.items():
            try:
                replica.check(60)
            except UnhealthyError:
                found.append(name)
        return found

    async def promote() -> None:
        replicas = {name: new_replica(name, OLD) for name in ("a", "b", "c")}
        replaced: list[str] = []
        for _ in range(40):
            now[0] += 3
            for name, replica in replicas.items():
                await status.report(ReplicaReport("generator", name))
                await replica.set_aliases(VersionAliases(NEW))
            outdated = unhealthy(replicas)
            assert len(outdated) <= 1
            for name in outdated:
                assert await replicas.pop(name).close(10)
                replaced.append(name)
                replicas[f"{name}2"] = new_replica(f"{name}2", NEW)
        assert replaced == ["a", "b", "c"]
        assert all(each.version == NEW for replica in replicas.values() for each in replica.versions())
        for replica in replicas.values():
            assert await replica.close(10)

    asyncio.run(promote())


def test_where_two_do_not_fit_the_replica_is_outdated() -> None:
    async def promote() -> None:
        replica = replica_of(rollout=RolloutConfig(poll_s=1, beside=False))
        await replica.set_aliases(VersionAliases(OLD))
        replica.check(60)
        await replica.set_aliases(VersionAliases(NEW))
        assert [s.version for s in replica.versions()] == [OLD]
        with pytest.raises(UnhealthyError, match="beside"):
            replica.check(60)
        assert (await replica.generate(REQUEST)).model_version == OLD, "it draws until it is replaced"
        restarted = replica_of(BROKEN, rollout=RolloutConfig(poll_s=1, beside=False))
        await restarted.set_aliases(VersionAliases(BROKEN))
        restarted.check(60)  # another restart would not help
        assert await replica.close(10) and await restarted.close(10)

    asyncio.run(promote())


def test_a_replica_with_a_stuck_engine_stays_unhealthy_and_takes_nothing_more() -> None:
    async def hang() -> None:
        replica = replica_of()
        begun = asyncio.create_task(replica.generate(replace(REQUEST, prompt="an endless robot")))
        await asyncio.sleep(0.3)
        replica.check(60)
        with pytest.raises(UnhealthyError, match="made no progress"):
            replica.check(0.1)
        with pytest.raises(UnavailableError):
            await begun
        with pytest.raises(UnhealthyError, match="stuck"):
            replica.check(60)
        with pytest.raises(BusyError) as refused:  # so that a job is given back, and loses no attempt
            await replica.generate(REQUEST)
        assert refused.value.retry_after_s
        closed = time.monotonic()
        assert not await replica.close(30), "its engine never ends"
        assert time.monotonic() - closed < 5, "its successor waits for the GPU"

    asyncio.run(hang())


async def first_model(service: RunningService) -> dict[str, Any]:
    answer = await service.client.get("/v1/models")
    return dict(answer.json()["data"][0])


def test_a_share_of_requests_and_jobs_goes_to_the_challenger(tmp_path: Path) -> None:
    config = configured(tmp_path, "serving.rollout.canary=0.5", "serving.jobs.tick_s=0.02")

    async def draw() -> None:
        async with running_service(config) as service:
            point(config, champion=OLD, challenger=NEW)
            while len(service.generator.versions()) < 2:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(10):
                while len((models := await first_model(service))["versions"]) < 2:
                    await asyncio.sleep(0.01)
            assert models["version"] == OLD
            assert {(v["version"], v["role"]) for v in models["versions"]} == {(OLD, "champion"), (NEW, "challenger")}
            drawn = {seed: (await service.draw(seed=seed)).json()["model_version"] for seed in range(20)}
            assert set(drawn.values()) == {OLD, NEW}
            for seed in range(6):
                sent = await service.client.post("/v1/jobs", json={"prompt": "a robot", "seed": seed, "steps": 3})
                job: dict[str, Any] = {}
                while "result" not in job:
                    job = (await service.client.get(sent.headers["Location"])).json()
                    await asyncio.sleep(0.02)
                assert job["result"]["model_version"] == drawn[seed], "the same request is drawn alike"
            point(config, champion=NEW, challenger=NEW)
            await service.until_version(NEW)
            assert service.loads == [OLD, NEW], "the challenger was loaded already"
            assert {(s.version, s.role) for s in service.generator.versions()} == {(OLD, "kept"), (NEW, "champion")}

    asyncio.run(draw())


# Two versions over the same weights


def draw(pipeline: RealCustomPipeline, tokens: torch.Tensor) -> torch.Tensor:
    seed = torch.Generator().manual_seed(3)
    output = pipeline(
        "a robot in the snow",
        Subject(tokens, "robot"),
        num_inference_steps=2,
        generator=seed,
        output_type="latent",
        height=64,
        width=64,
    )
    latents: torch.Tensor = output.images
    return latents


def trained(pipeline: RealCustomPipeline, seed: int) -> RealCustomAdapter:
    """An adapter that fits, and acts."""
    vision, config = pipeline.vision_encoder, pipeline.adapter.projector_config
    adapter = RealCustomAdapter.for_unet(pipeline.unet, vision.channels, config, vision.identity)
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return adapter


def test_two_versions_share_all_weights_but_the_adapters(config: Config) -> None:
    first = RealCustomPipeline.from_config(config)
    first.set_adapter(trained(first, 1), first.vision_encoder, first.guidance)
    tokens = torch.randn(8, first.unet.config.cross_attention_dim, generator=torch.Generator().manual_seed(1))
    before = draw(first, tokens)
    second = first.with_adapter(trained(first, 2))
    assert second.token_identity != first.token_identity
    assert torch.equal(draw(first, tokens), before), "the first is as it was"

    alone = RealCustomPipeline.from_config(config)
    alone.set_adapter(trained(alone, 2), alone.vision_encoder, alone.guidance)
    assert torch.equal(draw(second, tokens), draw(alone, tokens)) and not torch.equal(draw(second, tokens), before)

    for name in ("unet", "vae", "text_encoder", "text_encoder_2", "vision_encoder"):
        own, other = getattr(first, name), getattr(second, name)
        assert own is not other
        pointers = [[p.data_ptr() for p in module.parameters()] for module in (own, other)]
        assert pointers[0] == pointers[1] and pointers[0], name
    assert {p.data_ptr() for p in first.adapter.parameters()}.isdisjoint(
        p.data_ptr() for p in second.adapter.parameters()
    )


def test_two_versions_draw_at_the_same_time_as_they_do_alone(config: Config) -> None:
    first = RealCustomPipeline.from_config(config)
    first.set_adapter(trained(first, 1), first.vision_encoder, first.guidance)
    second = first.with_adapter(trained(first, 2))
    tokens = torch.randn(8, first.unet.config.cross_attention_dim, generator=torch.Generator().manual_seed(1))
    alone = [draw(pipeline, tokens) for pipeline in (first, second)]
    with ThreadPoolExecutor(2) as threads:
        for _ in range(3):
            together = list(threads.map(lambda pipeline: draw(pipeline, tokens), (first, second)))
            assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


# On Ray Serve


@contextmanager
def asking(url: str, clients: int) -> Iterator[list[tuple[int, str]]]:
    """Clients that draw one picture after the other during the block; the list is their answers."""
    answers: list[tuple[int, str]] = []
    ended = threading.Event()

    def ask(client: int) -> None:
        with httpx.Client(base_url=url, timeout=60) as session:
            while not ended.is_set():
                body = {"prompt": "a slow robot" if client == 0 else "a robot", "steps": 3}
                answer = session.post("/v1/images/generations", json=body)
                answers.append((answer.status_code, answer.json().get("model_version", answer.text)))

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.slow
def test_a_promotion_under_load_and_a_generator_that_hangs(tmp_path: Path, ray_cluster: None) -> None:
    overrides = ["serving.port=0", "serving.max_replicas=1", "serving.rollout.poll_s=0.5", "serving.stuck_s=2"]
    config = configured(tmp_path, *overrides, "serving.health_check_s=0.5", "serving.drain_s=1")
    point(config, champion=OLD)
    url = app.start(config, registry="tests.fakes.pipeline")
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            wait_until(lambda: client.get("/readyz").status_code == 200)

            def served() -> str:
                return str(client.get("/v1/models").json()["data"][0]["version"])

            with asking(url, 4) as answers:
                for version in (NEW, OLD, NEW):
                    point(config, champion=version)
                    wait_until(lambda wanted=version: served() == wanted)
                    time.sleep(0.5)
            print(f"\n{len(answers)} requests while the alias moved three times: {Counter(answers)}")
            assert {status for status, _ in answers} == {200}
            assert {version for _, version in answers} == {OLD, NEW} and answers[-1][1] == NEW

            before = generators()
            hung = client.post("/v1/images/generations", json={"prompt": "an endless robot"})
            assert (hung.status_code, hung.json()["error"]["code"]) == (503, "unavailable"), hung.text
            assert int(hung.headers["Retry-After"]) >= 1
            wait_until(lambda: generators() and not set(generators()) & set(before))
            wait_until(lambda: client.post("/v1/images/generations", json={"prompt": "a robot"}).status_code == 200)
            again = client.post("/v1/images/generations", json={"prompt": "a robot"})
            assert again.json()["model_version"] == NEW, "it loads what the registry names by now"
            page = client.get("/metrics").text
            for name in ("model_info", "engine_steps_total", "request_seconds_bucket", "rejections_total", "jobs"):
                assert f"realcustom_{name}{{" in page, name
    finally:
        app.stop()

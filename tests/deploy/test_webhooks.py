"""Delivery of webhooks: checked addresses, secrets of owners, and receivers that do not answer."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from components.config import JobsConfig
from components.jobs.signing import read_secrets
from components.jobs.webhook_settings import WebhookRefusedError, WebhookSettingsStore
from deploy.jobs.public_address import AddressError, is_public, resolve
from deploy.jobs.webhook_sender import WebhookSender
from tests.fakes.webhook_receiver import Receiver
from tests.fixtures.job_stores import JobStores


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),  # shared by a provider's customers
        ("169.254.169.254", False),  # metadata of clouds
        ("fd00:ec2::254", False),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("224.0.0.1", False),
        ("ff02::1", False),
        ("::1", False),
        ("::", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),  # 6to4 of 127.0.0.1
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", False),  # Teredo of 10.0.0.1
        ("64:ff9b::a9fe:a9fe", False),  # NAT64 of 169.254.169.254
        ("64:ff9b::5db8:d70e", True),  # NAT64 of 93.184.215.14
    ],
)
def test_only_public_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def answers_of(monkeypatch: pytest.MonkeyPatch, **addresses: list[str]) -> None:
    """Let names resolve to ``addresses``."""

    def look(host: str, port: int | None, **_: Any) -> list[tuple[Any, ...]]:
        if host not in addresses:
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses[host]]

    monkeypatch.setattr("deploy.jobs.public_address.socket.getaddrinfo", look)


def test_a_host_with_one_address_that_is_not_public_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers_of(monkeypatch, hooks=["93.184.215.14"], mixed=["93.184.215.14", "127.0.0.1"], inside=["10.0.0.7"])
    assert resolve("hooks") == ["93.184.215.14"]
    assert resolve("inside", ["Inside"]) == ["10.0.0.7"]
    for host in ("mixed", "inside"):
        with pytest.raises(AddressError, match="webhook_private_hosts"):
            resolve(host, ["other"])
    with pytest.raises(AddressError, match="no address"):
        resolve("nobody")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    served = Receiver()
    yield served
    served.server.shutdown()


@contextmanager
def silence() -> Iterator[int]:
    """The port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server.getsockname()[1]


class Senders:
    """A sender over the queue of ended jobs."""

    def __init__(self, tmp_path: Path, **limits: Any) -> None:
        self.stores = JobStores(tmp_path, f"sqlite:///{tmp_path / 'jobs.db'}", max_queued=1000)
        self.settings = WebhookSettingsStore(self.stores.engine)
        self.limits = JobsConfig(**limits)

    def end(self, *urls: str, owner: str = "ada") -> list[str]:
        jobs = [self.stores.submit(webhook=url, owner=owner) for url in urls]
        while lease := self.stores.queue.claim():
            self.stores.queue.finish(lease, b"pictures")
        return jobs

    def run(self, done: Callable[[], bool], limit_s: float = 20) -> None:
        async def work() -> None:
            sender = WebhookSender(self.stores.webhook_queue, self.settings, self.limits)
            deadline = time.monotonic() + limit_s
            while not done():
                assert time.monotonic() < deadline
                if not await sender.run_next():
                    await sender.wait(0.02)
            await sender.close()

        asyncio.run(work())

    def webhook(self, job: str, owner: str = "ada") -> tuple[str, str | None]:
        hook = self.stores.store.get(job, owner).webhook
        assert hook is not None
        return hook.state, hook.error


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name's server answers differently the second time, as an attacker's would."""
    senders = Senders(tmp_path, webhook_private_hosts=["hooks.example"])
    asked = []

    def look(host: str, port: int | None, **_: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr("deploy.jobs.public_address.socket.getaddrinfo", look)
    origin = f"http://hooks.example:{receiver.port}"
    senders.settings.allow("ada", [origin])
    (job,) = senders.end(f"{origin}/hook?x=1")
    senders.run(lambda: senders.webhook(job)[0] == "delivered")
    (path, headers, _) = receiver.received[0]
    assert (path, headers["host"]) == ("/hook?x=1", f"hooks.example:{receiver.port}")
    assert asked == ["hooks.example"]


def test_addresses_inside_are_refused_unless_they_are_named(tmp_path: Path, receiver: Receiver) -> None:
    origin = receiver.origin
    senders = Senders(tmp_path)
    senders.settings.allow("ada", [origin])
    (job,) = senders.end(origin)
    senders.run(lambda: senders.webhook(job)[1] is not None)
    assert "webhook_private_hosts" in str(senders.webhook(job)[1])
    assert not receiver.received


def test_each_owner_signs_with_its_own_secrets(tmp_path: Path, receiver: Receiver) -> None:
    (tmp_path / "shared").write_text("whsec_" + base64.b64encode(bytes(32)).decode())
    origin = receiver.origin
    senders = Senders(
        tmp_path,
        webhook_private_hosts=["127.0.0.1"],
        webhook_origins=[origin],
        webhook_secret=tmp_path / "shared",
    )
    senders.settings.allow("ada", [origin])
    senders.settings.rotate("ada")
    keys = {
        "ada": read_secrets("\n".join(senders.settings.get("ada").secrets)),
        "bob": (bytes(32),),
    }
    for owner in keys:
        senders.end(origin, owner=owner)
    senders.run(lambda: len(receiver.received) == 2)
    signatures = {}
    for _, headers, body in receiver.received:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        owner = "ada" if " " in headers["webhook-signature"] else "bob"
        expected = [base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys[owner]]
        assert headers["webhook-signature"] == " ".join(f"v1,{digest}" for digest in expected)
        signatures[owner] = json.loads(body)["data"]["id"]
    assert set(signatures) == {"ada", "bob"}


def test_an_origin_that_is_not_allowed_is_refused_at_once(tmp_path: Path) -> None:
    senders = Senders(tmp_path)
    senders.settings.allow("ada", ["https://hooks.example"])

    async def check(url: str, owner: str) -> None:
        sender = WebhookSender(senders.stores.webhook_queue, senders.settings, senders.limits)
        try:
            sender.check(url, owner)
        finally:
            await sender.close()

    asyncio.run(check("https://hooks.example/x", "ada"))
    for url, owner in (("https://hooks.example/x", "bob"), ("https://other.example", "ada")):
        with pytest.raises(WebhookRefusedError, match=r"webhook\.url"):
            asyncio.run(check(url, owner))


def test_receivers_that_do_not_answer_delay_nobody_else(tmp_path: Path, receiver: Receiver) -> None:
    """Fifty webhooks for a silent receiver were there first."""
    senders = Senders(tmp_path, webhook_private_hosts=["127.0.0.1"])
    with silence() as port:
        dead, alive = f"http://127.0.0.1:{port}", receiver.origin
        senders.settings.allow("ada", [dead])
        senders.settings.allow("bob", [alive])
        senders.end(*[dead] * 50)
        senders.end(*[alive] * 10, owner="bob")
        started = time.monotonic()
        senders.run(lambda: len(receiver.received) == 10)
        assert time.monotonic() - started < 5, "half of the time limit of one webhook"


def test_many_receivers_of_one_owner_that_do_not_answer_delay_no_other_owner(
    tmp_path: Path, receiver: Receiver
) -> None:
    """A hundred webhooks for fifty silent receivers were there first."""
    senders = Senders(tmp_path, webhook_private_hosts=["127.0.0.1"])
    with ExitStack() as silent:
        dead = [f"http://127.0.0.1:{silent.enter_context(silence())}" for _ in range(50)]
        senders.settings.allow("ada", dead)
        senders.settings.allow("bob", [receiver.origin])
        senders.end(*dead, *dead)
        senders.end(*[receiver.origin] * 10, owner="bob")
        started = time.monotonic()
        senders.run(lambda: len(receiver.received) == 10)
        assert time.monotonic() - started < 5, "half of the time limit of one webhook"

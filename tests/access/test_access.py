"""API keys: creation, lookup, limits and revocation, on either database; and the commands that do so."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from components.access import key as keys
from components.access.key import KeyLimits, Scope, is_key, key_id, new_key
from components.access.limits import DAY_S, UsageLedger
from components.access.store import TABLES, KeyStore
from components.database import open_database
from components.errors import ConfigError, NotFoundError
from deploy.api.key_cache import KeyCache
from deploy.interfaces.errors import UnavailableError
from tests.fixtures.job_stores import Clock, database
from workflows.cli import app

__all__ = ["database"]

NOON = 1_700_000_000.0 - 1_700_000_000.0 % DAY_S + DAY_S / 2


@pytest.fixture
def engine(tmp_path: Path, database: str) -> sa.Engine:
    return open_database(tmp_path, database)


@pytest.fixture
def local(tmp_path: Path) -> sa.Engine:
    return open_database(tmp_path, None)


class StillClock(Clock):
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


# Keys


def test_a_key_is_known_by_its_digest_alone() -> None:
    identifier, text, digest = new_key()
    assert re.fullmatch(r"rc-[0-9a-f]{16}-[0-9a-f]{48}", text)
    assert key_id(text) == identifier and is_key(text, digest)
    other = new_key()[1]
    assert not is_key(other, digest) and not is_key(text[:-1], digest) and not is_key("", digest)
    assert not is_key(text, None) and not is_key("", None), "nothing is the key of nobody"
    assert text not in digest and identifier not in digest


@pytest.mark.parametrize("wrong", ["", "rc-", "rc--", "sk-1234", "rc-" + "0" * 16, f"rc-{'0' * 16}-{'g' * 48}", "ключ"])
def test_what_is_no_key_has_no_id(wrong: str) -> None:
    assert key_id(wrong) is None


@settings(deadline=None)
@given(st.text(max_size=100))
def test_no_text_is_a_key_by_chance(text: str) -> None:
    assert not is_key(text, new_key()[2]) and not is_key(text, None)


# The store


def test_stored_values_are_not_accepted_as_keys(engine: sa.Engine) -> None:
    store = KeyStore(engine)
    key, text = store.create("ada", "laptop", [Scope.IMAGES, Scope.JOBS_READ], KeyLimits(60, 10**12))
    assert store.all() == store.valid() == [key]
    secret = text.rpartition("-")[2]
    with engine.connect() as connection:
        rows = connection.execute(sa.select(TABLES[0])).all()
    assert secret not in str(rows) and key.digest in str(rows) and secret not in repr(key)
    assert key.digest not in repr(key)
    assert (key.owner, key.name, key.limits) == ("ada", "laptop", KeyLimits(60, 10**12))
    assert key.allows(Scope.IMAGES) and not key.allows(Scope.JOBS_WRITE)


def test_keys_end(engine: sa.Engine) -> None:
    clock = StillClock()
    store = KeyStore(engine, clock)
    short, _ = store.create("ada", "a", [Scope.IMAGES], lifetime_s=60)
    long, _ = store.create("ada", "b", [Scope.IMAGES])
    assert store.valid() == [short, long] or store.valid() == [long, short]
    assert short.is_valid(clock.now + 59) and not short.is_valid(clock.now + 60)
    clock.now += 60
    assert store.valid() == [long]
    store.revoke(long.id)
    assert store.valid() == []
    revoked = {key.id: key.revoked for key in store.all()}
    assert revoked == {short.id: None, long.id: clock.now}
    clock.now += 5
    store.revoke(long.id)
    assert {key.id: key.revoked for key in store.all()} == revoked, "it ended when it ended"
    with pytest.raises(NotFoundError, match="key list"):
        store.revoke("0" * 16)


@pytest.mark.parametrize(
    ("owner", "name", "scopes", "named"),
    [("a b", "x", [Scope.IMAGES], "owner"), ("a", "", [Scope.IMAGES], "name"), ("a", "x", [], "scopes")],
)
def test_a_key_that_cannot_be_is_refused_by_field(
    local: sa.Engine, owner: str, name: str, scopes: list[Scope], named: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{named}: "):
        KeyStore(local).create(owner, name, scopes)
    assert KeyStore(local).all() == []


def test_a_scope_of_a_later_release_gives_nothing_here(local: sa.Engine) -> None:
    key, _ = KeyStore(local).create("ada", "x", [Scope.IMAGES])
    with local.begin() as connection:
        connection.execute(TABLES[0].update().values(scopes=["images", "everything"]))
    assert KeyStore(local).valid() == [key]


# Limits


def test_what_is_spent_is_bounded_and_comes_back(engine: sa.Engine) -> None:
    clock = StillClock()
    ledger = UsageLedger(engine, clock)
    first = ledger.charge("a", 60, limit=100)
    assert first is not None and ledger.spent() == {"a": 60}
    assert ledger.charge("a", 41, limit=100) is None and ledger.spent() == {"a": 60}
    assert ledger.charge("b", 41, limit=100) is not None, "each key has its own"
    second = ledger.charge("a", 40, limit=100)
    assert second is not None and ledger.spent()["a"] == 100
    ledger.refund(second)
    ledger.refund(first, 10)
    assert ledger.spent()["a"] == 50
    assert ledger.day_ends_in() == DAY_S / 2
    clock.now += DAY_S / 2 + 1
    assert ledger.spent() == {} and ledger.charge("a", 100, limit=100) is not None
    ledger.refund(first, 50)
    assert ledger.spent() == {"a": 100}, "what was charged yesterday comes back to yesterday"
    assert ledger.charge("c", 101, limit=100) is None and "c" not in ledger.spent()
    large = 2**40
    assert ledger.charge("d", large, limit=large) is not None and ledger.spent()["d"] == large


def test_gateways_that_charge_at_the_same_time_do_not_overspend(tmp_path: Path, database: str) -> None:
    ledgers = [UsageLedger(open_database(tmp_path, database), StillClock()) for _ in range(4)]

    def charge(number: int) -> bool:
        return ledgers[number % 4].charge("a", 10, limit=95) is not None

    with ThreadPoolExecutor(8) as executor:
        accepted = list(executor.map(charge, range(32)))
    assert sum(accepted) == 9 and ledgers[0].spent() == {"a": 90}


# The keyring


class CountingStore(KeyStore):
    """Counts how often it is read, and can be broken."""

    reads, broken = 0, False

    def valid(self) -> list[keys.ApiKey]:
        self.reads += 1
        if self.broken:
            raise OperationalError("select", {}, Exception("gone"))
        return super().valid()


def test_requests_do_not_read_the_database_each(local: sa.Engine) -> None:
    store = CountingStore(local)
    key, text = store.create("ada", "x", [Scope.IMAGES])

    async def ask() -> None:
        ring = KeyCache(store, refresh_s=60, stale_s=60)
        assert await asyncio.gather(*(ring.find(text) for _ in range(50))) == [key] * 50
        assert [await ring.find(sent) for sent in (new_key()[1], "", "rc-")] == [None] * 3

    asyncio.run(ask())
    assert store.reads == 1


def test_a_revoked_key_and_a_new_one_are_noticed(local: sa.Engine) -> None:
    store = KeyStore(local)
    old, text = store.create("ada", "x", [Scope.IMAGES])

    async def ask() -> None:
        ring = KeyCache(store, refresh_s=0.05, stale_s=60)
        assert await ring.find(text) == old
        store.revoke(old.id)
        new, other = store.create("ada", "y", [Scope.IMAGES])
        await asyncio.sleep(0.06)
        assert await ring.find(text) is None
        assert await ring.find(other) == new

    asyncio.run(ask())


def test_a_key_that_expires_between_two_readings_is_refused(local: sa.Engine) -> None:
    clock = StillClock()
    store = KeyStore(local, clock)
    key, text = store.create("ada", "x", [Scope.IMAGES], lifetime_s=1)

    async def ask() -> None:
        ring = KeyCache(store, 60, 60, clock)
        assert await ring.find(text) == key
        clock.now += 1
        assert await ring.find(text) is None

    asyncio.run(ask())


def test_keys_outlive_a_database_that_is_away_for_a_while(local: sa.Engine) -> None:
    store = CountingStore(local)
    key, text = store.create("ada", "x", [Scope.IMAGES])

    async def ask() -> None:
        ring = KeyCache(store, refresh_s=0.01, stale_s=0.3)
        assert await ring.find(text) == key
        store.broken = True
        await asyncio.sleep(0.02)
        assert await ring.find(text) == key, "it goes on with what it knows"
        await asyncio.sleep(0.3)
        with pytest.raises(UnavailableError, match="keys cannot be checked"):
            await ring.find(text)
        store.broken = False
        assert await ring.find(text) == key

    asyncio.run(ask())


def test_every_refusal_takes_the_same_comparison(local: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    store = KeyStore(local)
    _, text = store.create("ada", "x", [Scope.IMAGES])
    compared: list[int] = []
    compare = keys.hmac.compare_digest

    def watched(a: Any, b: Any) -> bool:
        compared.append(len(a) + len(b))
        return compare(a, b)

    monkeypatch.setattr(keys.hmac, "compare_digest", watched)

    async def ask(sent: str) -> None:
        assert await KeyCache(store, 60, 60).find(sent) is None

    for wrong in (text[:-1] + ("0" if text[-1] != "0" else "1"), new_key()[1], "rc-nonsense", ""):
        asyncio.run(ask(wrong))
    assert compared == [128] * 4


# The commands


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_keys_are_made_listed_and_revoked(here: Path) -> None:
    runner, place = CliRunner(), ["--set", "serving.store=kept"]
    limits = ["--requests-per-minute", "60", "--pixel-steps-per-day", "5000000", "--days", "2"]
    made = runner.invoke(app, ["key", "create", "--owner", "ada", "--name", "laptop", *limits, *place])
    assert made.exit_code == 0, made.output
    text = made.stdout.strip()
    store = KeyStore(open_database(here / "kept", None))
    (key,) = store.all()
    assert is_key(text, key.digest) and made.stdout.count("\n") == 1, "stdout is the key and nothing else"
    assert key.scopes == {s for s in Scope if s not in (Scope.METRICS, Scope.ADMIN)}
    assert key.limits == KeyLimits(60, 5_000_000) and key.expires == key.created + 2 * DAY_S
    listed = runner.invoke(app, ["key", "list", *place], env={"COLUMNS": "200"})
    assert key.id in listed.stdout and "laptop" in listed.stdout and "5,000,000 pixel-steps/day" in listed.stdout
    assert text.rpartition("-")[2] not in listed.output and key.digest not in listed.output
    revoked = runner.invoke(app, ["key", "revoke", key.id, *place])
    assert revoked.exit_code == 0 and store.valid() == []
    assert "revoked" in runner.invoke(app, ["key", "list", *place], env={"COLUMNS": "200"}).stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["create", "--owner", "ada", "--name", "x", "--scopes", "images,everything"], "'everything'"),
        (["create", "--owner", "ada lovelace", "--name", "x"], "owner"),
        (["create", "--owner", "ada", "--name", "x", "--scopes", ","], "scopes"),
        (["revoke", "0123"], "key list"),
        (["list", "--set", "serving.stor=x"], "serving.stor"),
    ],
)
def test_a_mistake_is_one_line(here: Path, arguments: list[str], named: str) -> None:
    result = CliRunner().invoke(app, ["key", *arguments])
    assert result.exit_code == 2 and result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and named in lines[0]

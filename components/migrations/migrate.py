"""Brings a database's schema to a revision, and says at which one it is.

Beside Alembic's table of the current revision, `_applied` keeps which revisions were applied, and whether they are
additive: a release reads there whether it can use a database of a newer one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from components.errors import ConfigError

#: Alembic's table; MLflow has an ``alembic_version`` of its own, perhaps in the same database.
VERSION_TABLE = "realcustom_version"
HEAD = "head"
#: Key of the advisory lock of migrations: in PostgreSQL, "if not exists" does not prevent races.
_LOCK_KEY = 0x7263_7461_626C_6573
#: Alembic's context is global to the process.
_ALEMBIC = Lock()
_log = logging.getLogger(__name__)
_applied = sa.Table(
    "realcustom_revisions",
    sa.MetaData(),
    sa.Column("revision", sa.String(32), primary_key=True),
    sa.Column("additive", sa.Boolean, nullable=False),
    # Seconds since 1970.
    sa.Column("applied", sa.Float(53), nullable=False),
)


@dataclass(frozen=True)
class SchemaState:
    """``revision`` of the database, None before the first migration, and ``head``, the newest of this release.

    ``newer``: revisions of the database that this release does not know; ``usable`` if all of them are additive.
    """

    revision: str | None
    head: str
    newer: tuple[str, ...] = ()
    usable: bool = True


def current(engine: sa.Engine) -> SchemaState:
    """The state of a database, read without a lock."""
    with engine.connect() as connection:
        return _state(connection, _scripts(_config()))


def open_schema(engine: sa.Engine) -> None:
    """Upgrade a database to this release's revision; leave one of a newer release as it is, if it can be used.

    Raises:
        ConfigError: a newer release has changed it in a way that this one cannot use.
    """
    state = current(engine)
    if state.newer:
        _check_usable(state)
        _log.warning(
            "the database is at revision %s of a newer release, this one knows %s: it is used as it is",
            state.revision,
            state.head,
        )
    elif state.revision != state.head:
        upgrade(engine)


def upgrade(engine: sa.Engine, revision: str = HEAD) -> SchemaState:
    """Upgrade to ``revision``; several processes may call this at once.

    Raises:
        ConfigError: there is no such later revision, or a newer release has migrated the database.
    """
    return _migrate(engine, command.upgrade, revision)


def downgrade(engine: sa.Engine, revision: str) -> SchemaState:
    """Downgrade to ``revision``, for a release that cannot use a later one.

    Raises:
        ConfigError: there is no such earlier revision, or a newer release has migrated the database.
    """
    return _migrate(engine, command.downgrade, revision)


def _migrate(engine: sa.Engine, go: Callable[[Config, str], None], revision: str) -> SchemaState:
    config = _config()
    scripts = _scripts(config)
    with _ALEMBIC, engine.begin() as connection:
        _lock(connection)
        state = _state(connection, scripts)
        if state.newer:
            raise ConfigError(
                f"serving.database: it is at revision {state.revision} of a newer release, and this one knows "
                f"{state.head}: run `realcustom database` of the newer release"
            )
        _applied.create(connection, checkfirst=True)
        options = {"connection": connection, "version_table": VERSION_TABLE, "on_version_apply": _record}
        config.attributes["options"] = options
        try:
            go(config, revision)
        except CommandError as error:
            raise ConfigError(f"revision: {error}; choose from {', '.join(_known(scripts))}") from error
        return _state(connection, scripts)


def _record(ctx: Any, step: Any, **_: Any) -> None:
    """Called by Alembic after each revision, within its transaction."""
    name = step.up_revision_id
    ctx.connection.execute(_applied.delete().where(_applied.c.revision == name))
    if step.is_upgrade:
        values = {"revision": name, "additive": step.up_revision.module.additive, "applied": time.time()}
        ctx.connection.execute(_applied.insert().values(values))
    _log.info("database: %s %s", "upgraded to" if step.is_upgrade else "downgraded from", name)


def _lock(connection: sa.Connection) -> None:
    """Lock migrations until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_KEY)))
    elif connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "components:migrations")
    config.set_main_option("path_separator", "os")
    return config


def _scripts(config: Config) -> ScriptDirectory:
    return ScriptDirectory.from_config(config)


def _known(scripts: ScriptDirectory) -> list[str]:
    """The revisions of this release, oldest first."""
    return [script.revision for script in scripts.walk_revisions()][::-1]


def _state(connection: sa.Connection, scripts: ScriptDirectory) -> SchemaState:
    known = _known(scripts)
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return SchemaState(None, known[-1])
    version = sa.table(VERSION_TABLE, sa.column("version_num", sa.String))
    revision = connection.execute(sa.select(version.c.version_num)).scalar()
    if revision is None or revision in known:
        return SchemaState(revision, known[-1])
    newer = _applied.c.revision.not_in(known)
    rows = connection.execute(sa.select(_applied).where(newer).order_by(_applied.c.revision)).all()
    usable = revision in {row.revision for row in rows} and all(row.additive for row in rows)
    return SchemaState(revision, known[-1], tuple(row.revision for row in rows), usable)


def _check_usable(state: SchemaState) -> None:
    if not state.usable:
        raise ConfigError(
            f"serving.database: a newer release has changed it to revision {state.revision}, which this release, of "
            f"{state.head}, cannot use: run `realcustom database downgrade {state.head}` of the newer release"
        )

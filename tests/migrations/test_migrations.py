"""Migrations of the service's database: from the rows of release 11882ae up and down, on both engines."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from typer.testing import CliRunner

from components.access.store import TABLES as KEYS
from components.characters.tables import TABLES as CHARACTERS
from components.config import PACKAGE_ROOT
from components.database import connect_database, open_database
from components.errors import ConfigError
from components.history.store import TABLES as HISTORY
from components.jobs.tables import TABLES as JOBS
from components.migrations.migrate import VERSION_TABLE, current, downgrade, upgrade
from components.stories.tables import TABLES as STORIES
from tests.fixtures.job_stores import database
from workflows.cli import app

__all__ = ["database"]

RELEASE = PACKAGE_ROOT / "tests" / "fixtures" / "release_11882ae" / "store" / "characters.db"
DECLARED = {table.name: table for table in (*KEYS, *CHARACTERS, *HISTORY, *JOBS, *STORIES)}
OWN = {VERSION_TABLE, "realcustom_revisions"}
HEAD = max(path.name.partition("_")[0] for path in (PACKAGE_ROOT / "components/migrations/versions").glob("r*.py"))
Rows = dict[str, list[dict[str, Any]]]


def scripts() -> ScriptDirectory:
    config = AlembicConfig()
    config.set_main_option("script_location", "components:migrations")
    return ScriptDirectory.from_config(config)


def rows(engine: sa.Engine, tables: set[str]) -> Rows:
    """All rows of the tables, by the columns that are declared and present."""
    found: Rows = {}
    present = sa.inspect(engine)
    with engine.connect() as connection:
        for name in sorted(tables):
            columns = {column["name"] for column in present.get_columns(name)}
            table = DECLARED[name]
            query = sa.select(*(c for c in table.columns if c.name in columns)).order_by(*table.primary_key)
            found[name] = [dict(row) for row in connection.execute(query).mappings()]
    return found


def schema(engine: sa.Engine) -> dict[str, Any]:
    """Table -> its columns (with type, null and default), key, unique constraints and indexes."""
    found = sa.inspect(engine)
    return {
        name: (
            [{k: str(v) for k, v in column.items()} for column in found.get_columns(name)],
            found.get_pk_constraint(name)["constrained_columns"],
            [unique["column_names"] for unique in found.get_unique_constraints(name)],
            sorted((str(index["name"]), index["column_names"]) for index in found.get_indexes(name)),
        )
        for name in found.get_table_names()
        if name not in OWN
    }


@pytest.fixture
def released(tmp_path: Path, database: str) -> sa.Engine:
    """A database with the rows that release 11882ae wrote, and without a revision."""
    copied = tmp_path / "jobs.db"
    shutil.copy(RELEASE, copied)
    if database.startswith("sqlite"):
        return connect_database(tmp_path, database)
    written = connect_database(tmp_path, f"sqlite:///{copied}")
    engine = connect_database(tmp_path, database)
    upgrade(engine, "r0001")
    metadata = sa.MetaData()
    metadata.reflect(engine)
    with engine.begin() as connection:
        for name, values in rows(written, set(schema(written))).items():
            connection.execute(metadata.tables[name].insert(), values) if values else None
        for name in OWN:
            metadata.tables[name].drop(connection)
    return engine


def test_the_rows_of_an_earlier_release_are_kept_up_and_down(released: sa.Engine) -> None:
    tables = set(schema(released))
    before = rows(released, tables)
    assert {name for name, found in before.items() if found} >= {"jobs", "characters", "api_keys"}
    assert current(released).revision is None
    assert upgrade(released).revision == HEAD
    after = rows(released, tables)
    for name in tables:
        added = set(DECLARED[name].columns.keys()) - set(before[name][0] if before[name] else after[name])
        for row, old in zip(after[name], before[name], strict=True):
            assert {key: row[key] for key in old} == old
            assert all(row[key] in (None, 0) for key in added), "new columns are empty"
    assert downgrade(released, "r0001").revision == "r0001"
    assert "jobs_by_end" not in {index["name"] for index in sa.inspect(released).get_indexes("jobs")}
    assert rows(released, tables) == after
    assert upgrade(released).revision == HEAD
    assert rows(released, tables) == after


def test_rows_of_this_release_are_kept_down_and_up(tmp_path: Path, database: str) -> None:
    engine = open_database(tmp_path, database)
    values = {"id": "story-1", "owner": "ada", "created": 1.5, "updated": 2.5, "revision": 1, "changes": 3}
    values |= {"changed": 2, "title": "A", "style": "", "language": "en", "pages": []}
    with engine.begin() as connection:
        connection.execute(DECLARED["stories"].insert().values(values))
    before = rows(engine, set(DECLARED))
    downgrade(engine, "r0001")
    open_database(tmp_path, database)
    assert current(engine).revision == HEAD
    assert rows(engine, set(DECLARED)) == before and before["stories"] == [values]


def test_migrations_make_the_declared_tables(tmp_path: Path, database: str) -> None:
    engine = open_database(tmp_path, database)
    declared = sa.MetaData()
    for table in DECLARED.values():
        table.to_metadata(declared)
    with engine.connect() as connection:
        options = {"include_name": lambda name, kind, _: kind != "table" or name not in OWN}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), declared) == []


def test_the_first_revision_is_what_the_release_wrote(tmp_path: Path) -> None:
    shutil.copy(RELEASE, tmp_path / "release.db")
    new = connect_database(tmp_path, f"sqlite:///{tmp_path / 'new.db'}")
    upgrade(new, "r0001")
    assert schema(new) == schema(connect_database(tmp_path, f"sqlite:///{tmp_path / 'release.db'}"))


def test_a_database_may_lack_tables_and_columns_of_the_first_revision(tmp_path: Path, database: str) -> None:
    engine = connect_database(tmp_path, database)
    with engine.begin() as connection:
        columns = "id VARCHAR(48) PRIMARY KEY, created FLOAT, name TEXT, description TEXT, target_word TEXT"
        connection.exec_driver_sql(f"CREATE TABLE characters ({columns}, pictures INTEGER, advice JSON)")
        connection.exec_driver_sql("INSERT INTO characters VALUES ('char-1', 5, 'Rob', 'a robot', 'robot', 1, '[]')")
    open_database(tmp_path, database)
    (row,) = rows(engine, set(DECLARED))["characters"]
    assert (row["name"], row["owner"], row["revision"], row["gallery"]) == ("Rob", "", 1, None)


def test_several_processes_open_a_database_of_an_earlier_release(released: sa.Engine, tmp_path: Path) -> None:
    url = released.url.render_as_string(hide_password=False)
    code = "import sys; from components.database import open_database; open_database(sys.argv[1], sys.argv[2])"
    opening = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), url], stderr=-1) for _ in range(4)]
    errors = [process.communicate(timeout=120)[1].decode() for process in opening]
    assert [process.returncode for process in opening] == [0] * 4, errors
    assert current(released).revision == HEAD and len(rows(released, {"jobs"})["jobs"]) == 5


def written_by_newer(engine: sa.Engine, *additive: bool) -> None:
    """Write what a newer release's revisions leave."""
    with engine.begin() as connection:
        for number, value in enumerate(additive, start=9001):
            sql = "INSERT INTO realcustom_revisions VALUES (:revision, :additive, 5)"
            connection.execute(sa.text(sql), {"revision": f"r{number}", "additive": value})
            connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = 'r{number}'"))


def test_a_newer_database_is_opened_after_a_roll_back(
    tmp_path: Path, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = open_database(tmp_path, database)
    written_by_newer(engine, True, True)
    before = schema(engine)
    with caplog.at_level(logging.WARNING):
        open_database(tmp_path, database)
    assert f"revision r9002 of a newer release, this one knows {HEAD}" in caplog.text
    assert schema(engine) == before and current(engine).revision == "r9002"
    with pytest.raises(ConfigError, match="realcustom database` of the newer release"):
        downgrade(engine, "r0001")


@pytest.mark.parametrize("additive", [(True, False), (False, True)])
def test_a_newer_database_that_cannot_be_used_is_refused(tmp_path: Path, additive: tuple[bool, bool]) -> None:
    engine = open_database(tmp_path, None)
    written_by_newer(engine, *additive)
    with pytest.raises(ConfigError, match=f"realcustom database downgrade {HEAD}` of the newer release"):
        open_database(tmp_path, None)


def test_a_failed_revision_changes_nothing(tmp_path: Path, database: str) -> None:
    """`jobs` is a view, which takes no column."""
    engine = connect_database(tmp_path, database)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE VIEW jobs AS SELECT 1 AS id")
    with pytest.raises(sa.exc.DBAPIError):
        open_database(tmp_path, database)
    assert sa.inspect(engine).get_table_names() == [] and current(engine).revision is None


def test_revisions_are_one_line_and_say_whether_they_are_additive() -> None:
    known = list(scripts().walk_revisions())[::-1]
    assert [script.revision for script in known] == [f"r{number:04}" for number in range(1, len(known) + 1)]
    assert all(isinstance(script.module.additive, bool) for script in known)
    assert all(Path(script.path).name.startswith(script.revision) for script in known)


def test_the_commands_migrate_and_show_the_revision(tmp_path: Path) -> None:
    def call(*words: str) -> str:
        result = CliRunner().invoke(app, ["database", *words, "--set", f"serving.store={tmp_path}"])
        return f"{result.exit_code} {result.output}"

    assert f"0 database without a revision, this release {HEAD}" in call("current")
    assert f"database {HEAD}, this release {HEAD}" in call("upgrade")
    assert "database r0001, this release" in call("downgrade", "r0001")
    assert "database r0001, this release" in call("current")
    refused = call("downgrade", "r0077")
    assert refused.startswith("2 error: revision: ") and "choose from r0001, r0002, r0003, r0004, r0005" in refused

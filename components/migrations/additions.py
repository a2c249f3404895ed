"""Creates what a database lacks of a schema: tables, columns and indexes that exist are left as they are."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable


def create_missing(connection: sa.Connection, metadata: sa.MetaData) -> None:
    """Create missing tables, missing columns of present tables, and missing indexes.

    A column that may be added to a table with rows is nullable or has a server default.
    """
    for table in metadata.sorted_tables:
        connection.execute(CreateTable(table, if_not_exists=True))
        add_missing_columns(connection, table.name, list(table.columns))
        for index in table.indexes:
            connection.execute(CreateIndex(index, if_not_exists=True))


def add_missing_columns(connection: sa.Connection, table: str, columns: list[sa.Column[object]]) -> None:
    """Add those of ``columns`` that the database's ``table`` lacks."""
    present = {column["name"] for column in sa.inspect(connection).get_columns(table)}
    quote = connection.dialect.identifier_preparer.quote
    for column in columns:
        if column.name not in present:
            definition = str(CreateColumn(column).compile(dialect=connection.dialect))
            connection.exec_driver_sql(f"ALTER TABLE {quote(table)} ADD COLUMN {definition}")

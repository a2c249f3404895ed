"""Alembic executes this file: it runs the revisions on the connection of `components.migrations.migrate`."""

from __future__ import annotations

from alembic import context


def run_revisions() -> None:
    context.configure(**context.config.attributes["options"])
    context.run_migrations()


run_revisions()

"""The bytes of each character's files, which storage quotas add up; null in rows of earlier releases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from components.migrations.additions import add_missing_columns

revision = "r0006"
down_revision = "r0005"
additive = True


def upgrade() -> None:
    add_missing_columns(op.get_bind(), "characters", [sa.Column("bytes", sa.BigInteger)])


def downgrade() -> None:
    """Nothing: earlier releases run beside the column."""

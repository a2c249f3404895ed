"""The audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from components.migrations.additions import create_missing

revision = "r0005"
down_revision = "r0004"
additive = True


def upgrade() -> None:
    metadata = sa.MetaData()
    sa.Table(
        "audit_log",
        metadata,
        sa.Column("id", sa.String(48), primary_key=True),
        sa.Column("at", sa.Float(53), nullable=False, index=True),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("key", sa.String(16), nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("request", sa.String(128), nullable=False),
        sa.Index("audit_log_by_owner", "owner", "id"),
    )
    create_missing(op.get_bind(), metadata)


def downgrade() -> None:
    """Nothing: the log is kept, and earlier releases run beside it."""

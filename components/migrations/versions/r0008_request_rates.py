"""Requests a minute of API keys, which gateways count together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from components.migrations.additions import create_missing

revision = "r0008"
down_revision = "r0007"
additive = True


def upgrade() -> None:
    metadata = sa.MetaData()
    sa.Table(
        "api_key_rates",
        metadata,
        sa.Column("key", sa.String(16), primary_key=True),
        sa.Column("per_minute", sa.Integer, nullable=False),
        sa.Column("full_at", sa.Float(53), nullable=False),
    )
    create_missing(op.get_bind(), metadata)


def downgrade() -> None:
    """Nothing: earlier releases run beside the table."""

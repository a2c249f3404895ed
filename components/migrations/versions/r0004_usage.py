"""Usage of owners by day; the key and the request that submitted a job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from components.migrations.additions import add_missing_columns, create_missing

revision = "r0004"
down_revision = "r0003"
additive = True


def upgrade() -> None:
    connection, metadata = op.get_bind(), sa.MetaData()
    sa.Table(
        "api_usage",
        metadata,
        sa.Column("owner", sa.String(200), primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(16), primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("pixel_steps", sa.BigInteger, nullable=False),
        sa.Column("images", sa.BigInteger, nullable=False),
    )
    create_missing(connection, metadata)
    add_missing_columns(
        connection,
        "jobs",
        [
            sa.Column("key_id", sa.String(16)),
            sa.Column("pixel_steps", sa.BigInteger),
            sa.Column("request_id", sa.String(128)),
        ],
    )


def downgrade() -> None:
    """Nothing: earlier releases run beside the table and the columns."""

"""The schema of release 0.1.0, which databases without a revision have in whole or in part."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from components.migrations.additions import create_missing

revision = "r0001"
down_revision = None
additive = True


def upgrade() -> None:
    create_missing(op.get_bind(), _schema())


def downgrade() -> None:
    """Nothing: release 0.1.0 reads the database without revisions."""


def _schema() -> sa.MetaData:
    metadata = sa.MetaData()
    _characters(metadata)
    _jobs(metadata)
    _keys(metadata)
    return metadata


def _characters(metadata: sa.MetaData) -> None:
    sa.Table(
        "characters",
        metadata,
        sa.Column("id", sa.String(48), primary_key=True),
        sa.Column("owner", sa.String(200), nullable=False, server_default=""),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("target_word", sa.Text, nullable=False),
        sa.Column("word_source", sa.String(16)),
        sa.Column("pictures", sa.Integer, nullable=False),
        sa.Column("advice", sa.JSON, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False, server_default="1"),
        sa.Column("gallery", sa.JSON),
        sa.Index("characters_by_owner", "owner", "id"),
    )
    sa.Table(
        "character_candidates",
        metadata,
        sa.Column("id", sa.String(48), primary_key=True),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("expires", sa.Float(53), nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("pictures", sa.Integer, nullable=False),
    )


def _jobs(metadata: sa.MetaData) -> None:
    sa.Table(
        "jobs",
        metadata,
        sa.Column("id", sa.String(48), primary_key=True),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("started", sa.Float(53)),
        sa.Column("ended", sa.Float(53)),
        sa.Column("payload", sa.JSON),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("pictures_done", sa.Integer, nullable=False),
        sa.Column("pictures", sa.Integer, nullable=False),
        sa.Column("error", sa.JSON),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("not_before", sa.Float(53), nullable=False),
        sa.Column("lease_until", sa.Float(53)),
        sa.Column("token", sa.String(32)),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("cancelling", sa.Boolean, nullable=False),
        sa.Column("webhook_url", sa.Text),
        sa.Column("webhook_state", sa.String(16)),
        sa.Column("webhook_attempts", sa.Integer, nullable=False),
        sa.Column("webhook_at", sa.Float(53)),
        sa.Column("webhook_error", sa.Text),
        sa.UniqueConstraint("owner", "idempotency_key"),
        sa.Index("jobs_by_state", "state", "owner"),
        sa.Index("jobs_by_webhook", "webhook_state", "webhook_at"),
    )
    sa.Table(
        "job_previews",
        metadata,
        sa.Column("job", sa.String(48), primary_key=True),
        sa.Column("picture", sa.Integer, primary_key=True),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("png", sa.LargeBinary, nullable=False),
    )


def _keys(metadata: sa.MetaData) -> None:
    sa.Table(
        "api_keys",
        metadata,
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("requests_per_minute", sa.Integer),
        sa.Column("pixel_steps_per_day", sa.BigInteger),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("expires", sa.Float(53)),
        sa.Column("revoked", sa.Float(53)),
    )
    sa.Table(
        "api_key_spending",
        metadata,
        sa.Column("key", sa.String(16), primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("spent", sa.BigInteger, nullable=False),
    )

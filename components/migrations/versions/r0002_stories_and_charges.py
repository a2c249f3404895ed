"""Stories, history, webhooks of owners, charges of requests and jobs; an index on `jobs.ended`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from components.migrations.additions import add_missing_columns, create_missing

revision = "r0002"
down_revision = "r0001"
additive = True


def upgrade() -> None:
    connection = op.get_bind()
    add_missing_columns(
        connection,
        "jobs",
        [
            sa.Column("webhook_origin", sa.Text),
            sa.Column("collector", sa.String(16)),
            sa.Column("trouble_since", sa.Float(53)),
            sa.Column("crashes", sa.Integer, nullable=False, server_default="0"),
            sa.Column("charged_key", sa.String(16)),
            sa.Column("charged_day", sa.Integer),
            sa.Column("charged_amount", sa.BigInteger),
        ],
    )
    op.create_index("jobs_by_collector", "jobs", ["collector", "state"], if_not_exists=True)
    op.create_index("jobs_by_end", "jobs", ["ended"], if_not_exists=True)
    create_missing(connection, _schema())


def downgrade() -> None:
    """Only the index goes: release 0.1.0 runs beside the tables and columns, which hold users' data."""
    op.drop_index("jobs_by_end", "jobs", if_exists=True)


def _schema() -> sa.MetaData:
    metadata = sa.MetaData()
    _stories(metadata)
    _others(metadata)
    return metadata


def _stories(metadata: sa.MetaData) -> None:
    sa.Table(
        "stories",
        metadata,
        sa.Column("id", sa.String(48), primary_key=True),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("updated", sa.Float(53), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("changes", sa.Integer, nullable=False),
        sa.Column("changed", sa.Integer, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("style", sa.Text, nullable=False),
        sa.Column("language", sa.String(35), nullable=False),
        sa.Column("pages", sa.JSON, nullable=False),
        sa.Index("stories_by_owner", "owner", "id"),
    )
    sa.Table(
        "story_panels",
        metadata,
        sa.Column("id", sa.String(48), primary_key=True),
        sa.Column("story", sa.String(48), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("changed", sa.Integer, nullable=False),
        sa.Column("prompt", sa.JSON, nullable=False),
        sa.Column("caption", sa.Text, nullable=False),
        sa.Column("characters", sa.JSON, nullable=False),
        sa.Column("size", sa.String(16), nullable=False),
        sa.Column("seed", sa.BigInteger),
        sa.Column("seed_locked", sa.Boolean, nullable=False),
        sa.Column("hidden", sa.Boolean, nullable=False),
        sa.Column("balloons", sa.JSON, nullable=False),
        sa.Column("with_characters", sa.Boolean, nullable=False),
        sa.Column("chosen", sa.String(48)),
        sa.Column("chosen_at", sa.Float(53), nullable=False),
        sa.Column("error", sa.JSON),
        sa.Index("story_panels_by_story", "story", "position"),
    )
    sa.Table(
        "story_takes",
        metadata,
        sa.Column("id", sa.String(48), primary_key=True),
        sa.Column("story", sa.String(48), nullable=False),
        sa.Column("panel", sa.String(48), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("masks", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Index("story_takes_by_panel", "story", "panel", "id"),
        sa.Index("story_takes_by_owner", "owner", "id"),
    )
    sa.Table(
        "story_jobs",
        metadata,
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("owner", sa.String(200), primary_key=True),
        sa.Column("story", sa.String(48), nullable=False),
        sa.Column("panel", sa.String(48), nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("drawn", sa.Float(53), nullable=False),
        sa.Column("variation", sa.Integer, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Index("story_jobs_by_story", "story", "panel"),
    )
    sa.Table(
        "story_requests",
        metadata,
        sa.Column("owner", sa.String(200), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("answer", sa.JSON, nullable=False),
    )


def _others(metadata: sa.MetaData) -> None:
    sa.Table(
        "generations",
        metadata,
        sa.Column("id", sa.String(48), primary_key=True),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Index("generations_by_owner", "owner", "id"),
        sa.Index("generations_by_age", "created"),
    )
    sa.Table(
        "webhook_settings",
        metadata,
        sa.Column("owner", sa.String(200), primary_key=True),
        sa.Column("origins", sa.JSON, nullable=False),
        sa.Column("secret", sa.String(100), nullable=False),
        sa.Column("previous_secret", sa.String(100)),
    )
    sa.Table(
        "api_key_request_charges",
        metadata,
        sa.Column("key", sa.String(16), primary_key=True),
        sa.Column("request", sa.String(255), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("open", sa.Integer, nullable=False),
        sa.Column("uses", sa.Integer, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False, index=True),
    )

"""Settings of panels: sampler, steps and guidance scale."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from components.migrations.additions import add_missing_columns

revision = "r0003"
down_revision = "r0002"
additive = True


def upgrade() -> None:
    columns: list[sa.Column[Any]] = [
        sa.Column("sampler", sa.String(64)),
        sa.Column("steps", sa.Integer),
        sa.Column("guidance_scale", sa.Float(53)),
    ]
    add_missing_columns(op.get_bind(), "story_panels", columns)


def downgrade() -> None:
    """Nothing: earlier releases run beside the columns, which hold users' data."""

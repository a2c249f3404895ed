"""LoRAs of panels; null is none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from components.migrations.additions import add_missing_columns

revision = "r0007"
down_revision = "r0006"
additive = True


def upgrade() -> None:
    add_missing_columns(op.get_bind(), "story_panels", [sa.Column("loras", sa.JSON(none_as_null=True))])


def downgrade() -> None:
    """Nothing: earlier releases run beside the column, which holds users' data."""

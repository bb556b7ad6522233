"""Version 4: figures by the hour of days that are over, and the visits of a person found at once."""

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    """Make its table; `serve` and `import-visits` fill it, since a store does not know where a site's doors are."""
    op.create_table(
        "rolled_up",
        sa.Column("site_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, primary_key=True, autoincrement=False),
        sa.Column("day", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("frozen", sa.Boolean, nullable=False),
        sa.Column("hours", sa.Text, nullable=False),
    )
    op.create_index("visits_by_person", "visits", ["site_id", "person"])

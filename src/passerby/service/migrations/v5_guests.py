"""Version 5: the consents of guests to be recognised, and who users are to a provider where they log in."""

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    """Make the table, and the column."""
    op.create_table(
        "guests",
        sa.Column("site_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("consent", sa.Text, nullable=False),
        sa.Column("given", sa.BigInteger, nullable=False),
        sa.Column("ends", sa.BigInteger, nullable=False),
        sa.Column("withdrawn", sa.BigInteger),
        sa.Column("by", sa.Text, nullable=False),
    )
    op.add_column("users", sa.Column("subject", sa.Text))
    op.create_index("users_by_subject", "users", ["subject"], unique=True)

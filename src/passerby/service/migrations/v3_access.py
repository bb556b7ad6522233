"""Version 3: who may see what, what was seen, and what was erased: users, keys, sessions, the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Make its tables."""
    number, text, time = sa.Integer, sa.Text, sa.BigInteger
    op.create_table(
        "users",
        sa.Column("name", text, primary_key=True),
        sa.Column("role", text, nullable=False),
        sa.Column("sites", text),
        sa.Column("password", text),
        sa.Column("created", time, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", text, primary_key=True),
        sa.Column("name", text, nullable=False, unique=True),
        sa.Column("hash", text, nullable=False),
        sa.Column("role", text, nullable=False),
        sa.Column("sites", text),
        sa.Column("created", time, nullable=False),
        sa.Column("ends", time),
        sa.Column("used", time),
    )
    op.create_table(
        "sessions",
        sa.Column("hash", text, primary_key=True),
        sa.Column("user", text, nullable=False),
        sa.Column("began", time, nullable=False),
        sa.Column("seen", time, nullable=False),
    )
    op.create_table(
        "invitations",
        sa.Column("hash", text, primary_key=True),
        sa.Column("user", text, nullable=False),
        sa.Column("role", text, nullable=False),
        sa.Column("sites", text),
        sa.Column("ends", time, nullable=False),
    )
    op.create_table(
        "tries",
        sa.Column("what", text, primary_key=True),
        sa.Column("failed", number, nullable=False),
        sa.Column("since", time, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("number", time, primary_key=True, autoincrement=False),
        sa.Column("at", time, nullable=False),
        sa.Column("who", text, nullable=False),
        sa.Column("kind", text, nullable=False),
        sa.Column("action", text, nullable=False),
        sa.Column("site", text),
        sa.Column("detail", text, nullable=False),
        sa.Column("previous", text, nullable=False),
        sa.Column("hash", text, nullable=False),
    )
    op.create_table(
        "released",
        sa.Column("site_id", number, primary_key=True, autoincrement=False),
        sa.Column("what", text, primary_key=True),
        sa.Column("at", time, nullable=False),
        sa.Column("content", text, nullable=False),
    )
    op.create_table(
        "erased",
        sa.Column("hash", text, primary_key=True),
        sa.Column("at", time, nullable=False),
    )

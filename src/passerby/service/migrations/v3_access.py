"""Version 3: who may see what, and what was seen: users, keys, sessions, the audit log."""

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Make its tables."""

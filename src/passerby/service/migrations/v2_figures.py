"""Version 2: what figures need beside people: gaps, queues, audits, counts from elsewhere, draws of counts."""

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Make its tables."""

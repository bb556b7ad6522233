"""Version 2: what figures need beside people: gaps, queues, audits, counts from elsewhere, sales, draws, closings."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Make its tables."""
    number, text, time = sa.Integer, sa.Text, sa.BigInteger

    def key(name: str, kind: type[sa.Integer | sa.BigInteger | sa.Text]) -> sa.Column[object]:
        return sa.Column(name, kind, primary_key=True, autoincrement=False)

    op.create_table(
        "gaps",
        key("site_id", number),
        key("camera", text),
        key("start", time),
        sa.Column("end", time),
        sa.Column("kind", text, nullable=False),
        sa.Column("reason", text, nullable=False),
    )
    op.create_index("gaps_by_end", "gaps", ["site_id", "end"])
    op.create_table(
        "queue_events",
        key("site_id", number),
        key("zone", text),
        key("start", time),
        key("kind", text),
        sa.Column("end", time),
        sa.Column("most", sa.Float, nullable=False),
    )
    op.create_table(
        "audits",
        key("site_id", number),
        key("line", text),
        key("start", time),
        sa.Column("end", time, nullable=False),
        sa.Column("entries", number, nullable=False),
        sa.Column("exits", number, nullable=False),
        sa.Column("place", text, nullable=False),
        sa.Column("by", text, nullable=False),
    )
    op.create_table(
        "counts",
        key("site_id", number),
        key("line", text),
        key("start", time),
        sa.Column("end", time, nullable=False),
        sa.Column("entries", number, nullable=False),
        sa.Column("exits", number),
    )
    op.create_index("counts_by_time", "counts", ["site_id", "start"])
    op.create_table(
        "sales",
        key("site_id", number),
        key("till", text),
        key("start", time),
        sa.Column("end", time, nullable=False),
        sa.Column("sales", number, nullable=False),
    )
    op.create_index("sales_by_time", "sales", ["site_id", "start"])
    op.create_table(
        "draws",
        key("site_id", number),
        key("length", text),
        key("what", text),
        key("start", time),
        sa.Column("values", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "closings",
        key("site_id", number),
        key("at", time),
        sa.Column("inside", number, nullable=False),
    )

"""Version 1: sites, cameras, sightings with stays and crossings, links, visits."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make every table."""
    number, text, time = sa.Integer, sa.Text, sa.BigInteger
    op.create_table(
        "sites",
        sa.Column("id", number, primary_key=True, autoincrement=False),
        sa.Column("name", text, nullable=False, unique=True),
        sa.Column("time_zone", text, nullable=False),
    )
    op.create_table(
        "cameras",
        sa.Column("id", number, primary_key=True, autoincrement=False),
        sa.Column("site_id", number, sa.ForeignKey("sites.id"), nullable=False),
        sa.Column("name", text, nullable=False),
        sa.UniqueConstraint("site_id", "name"),
    )
    op.create_table(
        "tracks",
        sa.Column("id", time, primary_key=True, autoincrement=False),
        sa.Column("camera_id", number, sa.ForeignKey("cameras.id"), nullable=False),
        sa.Column("session", text, nullable=False),
        sa.Column("track", time, nullable=False),
        sa.UniqueConstraint("camera_id", "session", "track"),
    )
    op.create_table(
        "sightings",
        sa.Column("track_id", time, primary_key=True, autoincrement=False),
        sa.Column("camera_id", number, nullable=False),
        sa.Column("revision", number, nullable=False),
        sa.Column("state", text, nullable=False),
        sa.Column("start", time, nullable=False),
        sa.Column("end", time, nullable=False),
        sa.Column("network", text, nullable=False),
        sa.Column("path_on", text, nullable=False),
        sa.Column("path", sa.LargeBinary, nullable=False),
    )
    op.create_index("sightings_by_time", "sightings", ["camera_id", "start"])
    op.create_table(
        "stays",
        sa.Column("track_id", time, primary_key=True, autoincrement=False),
        sa.Column("place", number, primary_key=True, autoincrement=False),
        sa.Column("zone", text, nullable=False),
        sa.Column("start", time, nullable=False),
        sa.Column("end", time),
    )
    op.create_table(
        "crossings",
        sa.Column("track_id", time, primary_key=True, autoincrement=False),
        sa.Column("place", number, primary_key=True, autoincrement=False),
        sa.Column("camera_id", number, nullable=False),
        sa.Column("line", text, nullable=False),
        sa.Column("at", time, nullable=False),
        sa.Column("inwards", sa.Boolean, nullable=False),
    )
    op.create_index("crossings_by_time", "crossings", ["camera_id", "at"])
    op.create_table(
        "links",
        sa.Column("later_id", time, primary_key=True, autoincrement=False),
        sa.Column("earlier_id", time, nullable=False),
        sa.Column("revision", number, nullable=False),
        sa.Column("probability", sa.Float, nullable=False),
        sa.Column("runner_up_id", time),
        sa.Column("runner_up_probability", sa.Float, nullable=False),
    )
    op.create_table(
        "visits",
        sa.Column("id", time, primary_key=True, autoincrement=False),
        sa.Column("site_id", number, sa.ForeignKey("sites.id"), nullable=False),
        sa.Column("name", text, nullable=False),
        sa.Column("revision", number, nullable=False),
        sa.Column("start", time, nullable=False),
        sa.Column("end", time, nullable=False),
        sa.Column("person", text),
        sa.Column("merged_into", text),
        sa.Column("split_from", text),
        sa.Column("final", sa.Boolean, nullable=False),
        sa.UniqueConstraint("site_id", "name"),
    )
    op.create_index("visits_by_time", "visits", ["site_id", "start"])
    op.create_table(
        "members",
        sa.Column("visit_id", time, primary_key=True, autoincrement=False),
        sa.Column("place", number, primary_key=True, autoincrement=False),
        sa.Column("track_id", time, nullable=False),
    )
    op.create_index("members_by_track", "members", ["track_id"])

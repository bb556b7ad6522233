"""The store's tables, as they are now; how they became so is in `migrations/`. Nothing is read or written here."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

VERSION = "5"  # the newest migration
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class UtcTime(TypeDecorator[datetime]):
    """A time as whole microseconds since 1970 in UTC: exact, small, in order, and the same in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """To the database; a time without its zone is refused by Python's own subtraction."""
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # Any: an int
        """From the database."""
        return None if value is None else EPOCH + timedelta(microseconds=value)


def _id(name: str, kind: type[Integer] | type[BigInteger] = BigInteger) -> Column[int]:
    """A part of a primary key; its numbers are given by the store's one writer."""
    return Column(name, kind, primary_key=True, autoincrement=False)


METADATA = MetaData()

SITES = Table(
    "sites",
    METADATA,
    _id("id", Integer),
    Column("name", Text, nullable=False, unique=True),
    Column("time_zone", Text, nullable=False),
)
CAMERAS = Table(
    "cameras",
    METADATA,
    _id("id", Integer),
    Column("site_id", Integer, ForeignKey("sites.id"), nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("site_id", "name"),
)
# What names a sighting: visits and links may speak of one before it comes.
TRACKS = Table(
    "tracks",
    METADATA,
    _id("id"),
    Column("camera_id", Integer, ForeignKey("cameras.id"), nullable=False),
    Column("session", Text, nullable=False),
    Column("track", BigInteger, nullable=False),
    UniqueConstraint("camera_id", "session", "track"),
)
# The newest revision; embeddings are not kept. `path` is (points, 3) float32, little end first: seconds, x, y.
SIGHTINGS = Table(
    "sightings",
    METADATA,
    _id("track_id"),
    Column("camera_id", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("start", UtcTime, nullable=False),
    Column("end", UtcTime, nullable=False),
    Column("network", Text, nullable=False),
    Column("path_on", Text, nullable=False),
    Column("path", LargeBinary, nullable=False),
    Index("sightings_by_time", "camera_id", "start"),
)
STAYS = Table(
    "stays",
    METADATA,
    _id("track_id"),
    _id("place", Integer),
    Column("zone", Text, nullable=False),
    Column("start", UtcTime, nullable=False),
    Column("end", UtcTime),
)
CROSSINGS = Table(
    "crossings",
    METADATA,
    _id("track_id"),
    _id("place", Integer),
    Column("camera_id", Integer, nullable=False),
    Column("line", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("inwards", Boolean, nullable=False),
    Index("crossings_by_time", "camera_id", "at"),
)
LINKS = Table(
    "links",
    METADATA,
    _id("later_id"),
    Column("earlier_id", BigInteger, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("probability", Float, nullable=False),
    Column("runner_up_id", BigInteger),
    Column("runner_up_probability", Float, nullable=False),
)
VISITS = Table(
    "visits",
    METADATA,
    _id("id"),
    Column("site_id", Integer, ForeignKey("sites.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("start", UtcTime, nullable=False),
    Column("end", UtcTime, nullable=False),
    Column("person", Text),
    Column("merged_into", Text),
    Column("split_from", Text),
    Column("final", Boolean, nullable=False),
    UniqueConstraint("site_id", "name"),
    Index("visits_by_time", "site_id", "start"),
    Index("visits_by_person", "site_id", "person"),
)
# The sightings of each visit, in order.
MEMBERS = Table(
    "members",
    METADATA,
    _id("visit_id"),
    _id("place", Integer),
    Column("track_id", BigInteger, nullable=False),
    Index("members_by_track", "track_id"),
)
# What stands beside people. Times when a camera saw nothing, or nothing that counts; without an end while it lasts.
GAPS = Table(
    "gaps",
    METADATA,
    _id("site_id", Integer),
    Column("camera", Text, primary_key=True),
    Column("start", UtcTime, primary_key=True, autoincrement=False),
    Column("end", UtcTime),
    Column("kind", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index("gaps_by_end", "site_id", "end"),
)
# Queues that were too long or too slow.
QUEUE_EVENTS = Table(
    "queue_events",
    METADATA,
    _id("site_id", Integer),
    Column("zone", Text, primary_key=True),
    Column("start", UtcTime, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("end", UtcTime),
    Column("most", Float, nullable=False),
)
# What a person counted at a line; `place` is the line as it was drawn then, as a hash.
AUDITS = Table(
    "audits",
    METADATA,
    _id("site_id", Integer),
    Column("line", Text, primary_key=True),
    Column("start", UtcTime, primary_key=True, autoincrement=False),
    Column("end", UtcTime, nullable=False),
    Column("entries", Integer, nullable=False),
    Column("exits", Integer, nullable=False),
    Column("place", Text, nullable=False),
    Column("by", Text, nullable=False),
)
# Counts at a line that came from elsewhere, without people.
COUNTS = Table(
    "counts",
    METADATA,
    _id("site_id", Integer),
    Column("line", Text, primary_key=True),
    Column("start", UtcTime, primary_key=True, autoincrement=False),
    Column("end", UtcTime, nullable=False),
    Column("entries", Integer, nullable=False),
    Column("exits", Integer),
    Index("counts_by_time", "site_id", "start"),
)
# Sales that tills counted.
SALES = Table(
    "sales",
    METADATA,
    _id("site_id", Integer),
    Column("till", Text, primary_key=True),
    Column("start", UtcTime, primary_key=True, autoincrement=False),
    Column("end", UtcTime, nullable=False),
    Column("sales", Integer, nullable=False),
    Index("sales_by_time", "site_id", "start"),
)
# Draws of a count; `values` are (draws,) int64, little end first.
DRAWS = Table(
    "draws",
    METADATA,
    _id("site_id", Integer),
    Column("length", Text, primary_key=True),
    Column("what", Text, primary_key=True),
    Column("start", UtcTime, primary_key=True, autoincrement=False),
    Column("values", LargeBinary, nullable=False),
)
# When a site closed, and how many were thought to be inside then.
CLOSINGS = Table(
    "closings",
    METADATA,
    _id("site_id", Integer),
    Column("at", UtcTime, primary_key=True, autoincrement=False),
    Column("inside", Integer, nullable=False),
)
# Version 3: who may see what, and what was seen. Secrets are kept as hashes only. `sites` is a JSON list; null is all of them.
USERS = Table(
    "users",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("sites", Text),
    Column("password", Text),
    Column("created", UtcTime, nullable=False),
    Column("subject", Text),  # version 5: who they are to a provider where they log in (`oidc.subject`)
    Index("users_by_subject", "subject", unique=True),
)
API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("hash", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("sites", Text),
    Column("created", UtcTime, nullable=False),
    Column("ends", UtcTime),
    Column("used", UtcTime),
)
SESSIONS = Table(
    "sessions",
    METADATA,
    Column("hash", Text, primary_key=True),
    Column("user", Text, nullable=False),
    Column("began", UtcTime, nullable=False),
    Column("seen", UtcTime, nullable=False),
)
# One-time links with which somebody chooses a password.
INVITATIONS = Table(
    "invitations",
    METADATA,
    Column("hash", Text, primary_key=True),
    Column("user", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("sites", Text),
    Column("ends", UtcTime, nullable=False),
)
# Failed logins, of a name or from an address, since the first of them.
TRIES = Table(
    "tries",
    METADATA,
    Column("what", Text, primary_key=True),
    Column("failed", Integer, nullable=False),
    Column("since", UtcTime, nullable=False),
)
# Each row's hash is over its content and the hash of the row before.
AUDIT = Table(
    "audit",
    METADATA,
    _id("number"),
    Column("at", UtcTime, nullable=False),
    Column("who", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("site", Text),
    Column("detail", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
)
# Personal detail of days as it may be told, as JSON, never made again (`released.py`).
RELEASED = Table(
    "released",
    METADATA,
    _id("site_id", Integer),
    Column("what", Text, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("content", Text, nullable=False),
)
# Hashes of visits and tracks that were erased: whoever tells of them again is not believed.
ERASED = Table(
    "erased",
    METADATA,
    Column("hash", Text, primary_key=True),
    Column("at", UtcTime, nullable=False),
)
# Version 4: figures of days that are over, by the hour, as JSON (`hours.py`); `settings` are those of the site that they follow
# from. A `frozen` day stays as it is: the visits that it was made of are not kept any more.
ROLLED_UP = Table(
    "rolled_up",
    METADATA,
    _id("site_id", Integer),
    Column("kind", Text, primary_key=True),
    Column("day", UtcTime, primary_key=True, autoincrement=False),
    Column("settings", Text, nullable=False),
    Column("frozen", Boolean, nullable=False),
    Column("hours", Text, nullable=False),
)
# Version 5: consents of guests to be recognised, each until it is erased; how they look is kept elsewhere (`vault.Safe`).
GUESTS = Table(
    "guests",
    METADATA,
    _id("site_id", Integer),
    Column("name", Text, primary_key=True),
    Column("purpose", Text, nullable=False),
    Column("consent", Text, nullable=False),
    Column("given", UtcTime, nullable=False),
    Column("ends", UtcTime, nullable=False),
    Column("withdrawn", UtcTime),
    Column("by", Text, nullable=False),
)

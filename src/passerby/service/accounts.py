"""Who may see what, and what was seen: users, API keys, sessions, the audit log; no request, no clear password."""

import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from passerby.service.schema import API_KEYS, AUDIT, EPOCH, INVITATIONS, MICROSECOND, SESSIONS, TRIES, USERS
from passerby.service.store import Store, StoreReader
from passerby.types import AccessError

Role = Literal["administrator", "manager", "analyst", "operator", "privacy officer", "auditor"]
Kind = Literal["user", "key", "command", "service"]  # of who did something

NAME = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,62}[^\s\x00-\x1f\x7f])?")
KEY = re.compile(r"pb_([0-9a-f]{12})_([0-9a-f]{64})")
INVITED = timedelta(hours=24)  # how long a one-time link works
IDLE = timedelta(hours=8)  # a session ends this long after it was used last,
LONGEST = timedelta(days=7)  # or this long after the login
NOTED = timedelta(minutes=5)  # the use of a session or key is written down this often at most
FAILING = timedelta(minutes=15)  # failed logins are counted, and keep somebody out, for so long
TRIES_A_NAME = 5
TRIES_AN_ADDRESS = 20
FIRST = "0" * 64  # what the first row of the audit log follows


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who logs in; `sites` None is all of them. Without a `password` (a hash) nobody can, before the link is used."""

    name: str
    role: Role
    sites: frozenset[str] | None
    created: datetime
    password: str | None
    subject: str | None = None  # who they are to a provider where they log in


@dataclass(frozen=True, slots=True)
class Key:
    """An API key without its secret; `id` is the part of it that is no secret, `used` when it was used last, about."""

    id: str
    name: str
    role: Role
    sites: frozenset[str] | None
    created: datetime
    ends: datetime | None
    used: datetime | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the audit log: when, who (a `kind` of whom), what they did, at which site, and more about it as JSON."""

    number: int
    at: datetime
    who: str
    kind: Kind
    action: str
    site: str | None
    detail: str
    previous: str
    hash: str


# Users


def users(reader: StoreReader) -> list[User]:
    """All users, in order of name."""
    with reader.reading() as connection:
        return [_user(row) for row in connection.execute(select(USERS).order_by(USERS.c.name))]


def user(reader: StoreReader, name: str) -> User | None:
    """The user of that name."""
    with reader.reading() as connection:
        row = connection.execute(select(USERS).where(USERS.c.name == name)).one_or_none()
    return None if row is None else _user(row)


def invite(
    store: Store, name: str, *, role: Role, sites: Iterable[str] | None, now: datetime, valid: timedelta = INVITED
) -> str:
    """Make the secret of a one-time link with which a user, new or not, chooses a password; it is kept as a hash only.

    A user who is there keeps the old password, role and sites until the link is used; links made for them before no
    longer work. Raises AccessError for a name or role that cannot be.
    """
    values = {"user": _named(name), "role": _role(role), "sites": _listed(sites), "ends": now + valid}
    secret = secrets.token_urlsafe(32)
    with store.writing() as connection:
        connection.execute(delete(INVITATIONS).where(or_(INVITATIONS.c.user == name, INVITATIONS.c.ends <= now)))
        connection.execute(insert(INVITATIONS).values(hash=_hash(secret), **values))
    return secret


def invited(reader: StoreReader, secret: str, *, now: datetime) -> str | None:
    """Whom a one-time link is for, while it works."""
    with reader.reading() as connection:
        row = _invitation(connection, secret, now)
    return None if row is None else str(row.user)


def accept(store: Store, secret: str, *, password: str, now: datetime) -> User:
    """Use a one-time link up: its user is there from now on, with this password (its hash); their sessions end.

    Raises AccessError where the link was used, is too old, or is none, and where it would take the last administrator's role.
    """
    with store.writing() as connection:
        row = _invitation(connection, secret, now)
        if row is None:
            raise AccessError("this link was used already, or is too old; `passerby users invite` makes a new one")
        connection.execute(delete(INVITATIONS).where(INVITATIONS.c.hash == row.hash))
        _spare_the_last(connection, row.user, but=row.role == "administrator" and row.sites is None)
        there = connection.execute(select(USERS.c.created, USERS.c.subject).where(USERS.c.name == row.user)).first()
        created, subject = (now, None) if there is None else there
        _forget(connection, row.user)
        values = {"name": row.user, "role": row.role, "sites": row.sites, "password": password, "subject": subject}
        connection.execute(insert(USERS).values(**values, created=created))
    return User(row.user, row.role, _sites(row.sites), created, password, subject)


def linked(reader: StoreReader, subject: str) -> User | None:
    """The user who is that one to a provider."""
    with reader.reading() as connection:
        row = connection.execute(select(USERS).where(USERS.c.subject == subject)).one_or_none()
    return None if row is None else _user(row)


def link(store: Store, name: str, subject: str) -> None:
    """Let a user log in at a provider, too. Raises AccessError for no such user, and where another one is that already."""
    with store.writing() as connection:
        other = connection.execute(
            select(USERS.c.name).where(USERS.c.subject == subject, USERS.c.name != name)
        ).scalar()
        if other is not None:
            raise AccessError(f"user {other!r} logs in at the provider as that one already")
        if not connection.execute(update(USERS).where(USERS.c.name == name).values(subject=subject)).rowcount:
            raise AccessError(f"user {name!r}: there is none of that name")


def add_linked(
    store: Store, name: str, subject: str, *, role: Role, sites: Iterable[str] | None, now: datetime
) -> None:
    """Make a user who logs in at a provider and has no password. Raises AccessError where the name is taken, or cannot be."""
    values = {"name": _named(name), "role": _role(role), "sites": _listed(sites), "created": now, "subject": subject}
    with store.writing() as connection:
        if connection.execute(select(USERS.c.name).where(USERS.c.name == name)).first():
            raise AccessError(f"user {name!r}: there is one of that name; `passerby users link` makes them that one")
        connection.execute(insert(USERS).values(**values))


def set_password(store: Store, name: str, password: str) -> None:
    """Replace a user's password by this one (its hash), such as by a stronger hash of the same; sessions go on."""
    with store.writing() as connection:
        connection.execute(update(USERS).where(USERS.c.name == name).values(password=password))


def change_user(store: Store, name: str, *, role: Role, sites: Iterable[str] | None) -> None:
    """Give a user another role or other sites, from the next request on. The last administrator of all sites stays one."""
    with store.writing() as connection:
        _spare_the_last(connection, name, but=role == "administrator" and sites is None)
        changed = update(USERS).where(USERS.c.name == name).values(role=_role(role), sites=_listed(sites))
        if not connection.execute(changed).rowcount:
            raise AccessError(f"user {name!r}: there is none of that name")


def remove_user(store: Store, name: str) -> None:
    """Remove a user with their sessions and links; what they did stays in the audit log. The last administrator stays."""
    with store.writing() as connection:
        _spare_the_last(connection, name, but=False)
        gone = connection.execute(delete(INVITATIONS).where(INVITATIONS.c.user == name)).rowcount
        if not _forget(connection, name) + gone:
            raise AccessError(f"user {name!r}: there is none of that name")


def _forget(connection: Connection, name: str) -> int:
    connection.execute(delete(SESSIONS).where(SESSIONS.c.user == name))
    return connection.execute(delete(USERS).where(USERS.c.name == name)).rowcount


def _spare_the_last(connection: Connection, name: str, *, but: bool) -> None:
    whole = select(USERS.c.name).where(USERS.c.role == "administrator", USERS.c.sites.is_(None))
    if not but and connection.execute(whole).scalars().all() == [name]:
        raise AccessError(f"user {name!r}: the last administrator of all sites stays one; make another one first")


def _invitation(connection: Connection, secret: str, now: datetime) -> Row[Any] | None:  # Any: columns
    chosen = select(INVITATIONS).where(INVITATIONS.c.hash == _hash(secret), INVITATIONS.c.ends > now)
    return connection.execute(chosen).one_or_none()


# API keys


def add_key(
    store: Store, name: str, *, role: Role, sites: Iterable[str] | None, now: datetime, ends: datetime | None = None
) -> str:
    """Make an API key and return it, this once: only its hash is kept. Raises AccessError where the name is taken."""
    number, secret = secrets.token_hex(6), secrets.token_hex(32)
    values = {"name": _named(name), "role": _role(role), "sites": _listed(sites), "created": now, "ends": ends}
    if ends is not None and ends <= now:
        raise AccessError(f"key {name!r}: expected an end after now, got {ends.isoformat()}")
    with store.writing() as connection:
        if connection.execute(select(API_KEYS.c.id).where(API_KEYS.c.name == name)).first():
            raise AccessError(f"key {name!r}: there is one of that name; revoke it first, or give another name")
        connection.execute(insert(API_KEYS).values(id=number, hash=_hash(secret), **values))
    return f"pb_{number}_{secret}"


def keys(reader: StoreReader) -> list[Key]:
    """All API keys, in order of name."""
    with reader.reading() as connection:
        return [_key(row) for row in connection.execute(select(API_KEYS).order_by(API_KEYS.c.name))]


def key_of(store: Store, secret: str, *, now: datetime) -> Key | None:
    """The API key that this is, unless it is none, was revoked or has ended."""
    match = KEY.fullmatch(secret)
    if match is None:
        return None
    with store.reading() as connection:
        row = connection.execute(select(API_KEYS).where(API_KEYS.c.id == match[1])).one_or_none()
    if row is None or not compare_digest(row.hash, _hash(match[2])) or (row.ends is not None and row.ends <= now):
        return None
    if row.used is None or now - row.used >= NOTED:
        with store.writing() as connection:
            connection.execute(update(API_KEYS).where(API_KEYS.c.id == row.id).values(used=now))
    return _key(row)


def revoke_key(store: Store, name: str) -> None:
    """Remove an API key: from the next request on it opens nothing."""
    with store.writing() as connection:
        if not connection.execute(delete(API_KEYS).where(API_KEYS.c.name == name)).rowcount:
            raise AccessError(f"key {name!r}: there is none of that name")


# Sessions


def begin_session(store: Store, name: str, *, now: datetime) -> str:
    """Begin a user's session and return its secret, which goes into a cookie; sessions that have ended are removed."""
    secret = secrets.token_urlsafe(32)
    with store.writing() as connection:
        ended = or_(SESSIONS.c.seen <= now - IDLE, SESSIONS.c.began <= now - LONGEST)
        connection.execute(delete(SESSIONS).where(ended))
        connection.execute(insert(SESSIONS).values(hash=_hash(secret), user=name, began=now, seen=now))
    return secret


def session_user(store: Store, secret: str, *, now: datetime) -> User | None:
    """Whose session this is, unless it is none or has ended."""
    with store.reading() as connection:
        found = select(USERS, SESSIONS.c.seen).join(SESSIONS, SESSIONS.c.user == USERS.c.name)
        found = found.where(
            SESSIONS.c.hash == _hash(secret), SESSIONS.c.seen > now - IDLE, SESSIONS.c.began > now - LONGEST
        )
        row = connection.execute(found).one_or_none()
    if row is None:
        return None
    if now - row.seen >= NOTED:
        with store.writing() as connection:
            connection.execute(update(SESSIONS).where(SESSIONS.c.hash == _hash(secret)).values(seen=now))
    return _user(row)


def end_session(store: Store, secret: str) -> None:
    """End a session, if it is one."""
    with store.writing() as connection:
        connection.execute(delete(SESSIONS).where(SESSIONS.c.hash == _hash(secret)))


# Failed logins


def kept_out(reader: StoreReader, name: str, address: str, *, now: datetime) -> datetime | None:
    """Until when this name, whether there is such a user or not, or this address may not try to log in; None: it may."""
    with reader.reading() as connection:
        rows = connection.execute(
            select(TRIES).where(TRIES.c.what.in_(_tried(name, address)), TRIES.c.since > now - FAILING)
        )
        limits = dict(zip(_tried(name, address), (TRIES_A_NAME, TRIES_AN_ADDRESS), strict=True))
        until = [row.since + FAILING for row in rows if row.failed >= limits[row.what]]
    return max(until, default=None)


def failed(store: Store, name: str, address: str, *, now: datetime) -> None:
    """Count a failed login."""
    with store.writing() as connection:
        connection.execute(delete(TRIES).where(TRIES.c.since <= now - FAILING))
        for what in _tried(name, address):
            more = update(TRIES).where(TRIES.c.what == what).values(failed=TRIES.c.failed + 1)
            if not connection.execute(more).rowcount:
                connection.execute(insert(TRIES).values(what=what, failed=1, since=now))


def succeeded(store: Store, name: str) -> None:
    """Forget the failed logins of a name; those of its address stay."""
    with store.writing() as connection:
        connection.execute(delete(TRIES).where(TRIES.c.what == _tried(name, "")[0]))


def _tried(name: str, address: str) -> tuple[str, str]:
    return f"name {sha256(name.encode()).hexdigest()}", f"address {address}"


# The audit log


def record(
    store: Store,
    *,
    who: str,
    kind: Kind,
    action: str,
    now: datetime,
    site: str | None = None,
    detail: Mapping[str, Any] | None = None,  # Any: JSON
) -> Entry:
    """Add a row to the audit log; when this returns, it outlives a crash."""
    with store.writing() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE audit IN EXCLUSIVE MODE")
        last = connection.execute(select(AUDIT.c.number, AUDIT.c.hash).order_by(AUDIT.c.number.desc()).limit(1)).first()
        number, previous = (1, FIRST) if last is None else (last.number + 1, last.hash)
        said = json.dumps(detail or {}, sort_keys=True, ensure_ascii=False)
        at = EPOCH + (now - EPOCH) // MICROSECOND * MICROSECOND  # in UTC, as it comes out
        entry = Entry(number, at, who, kind, action, site, said, previous, "")
        entry = Entry(number, at, who, kind, action, site, said, previous, chained(entry))
        connection.execute(insert(AUDIT).values({name: getattr(entry, name) for name in Entry.__slots__}))
    return entry


def log(
    reader: StoreReader, *, before: int | None = None, limit: int = 100, sites: Iterable[str] | None = None
) -> list[Entry]:
    """The newest rows of the audit log, newest first: those below number `before`, of these sites and of none."""
    chosen = select(AUDIT).order_by(AUDIT.c.number.desc()).limit(limit)
    if before is not None:
        chosen = chosen.where(AUDIT.c.number < before)
    if sites is not None:
        chosen = chosen.where(or_(AUDIT.c.site.in_(sorted(sites)), AUDIT.c.site.is_(None)))
    with reader.reading() as connection:
        return [Entry(*row) for row in connection.execute(chosen)]


def chained(entry: Entry) -> str:
    """The hash (SHA-256, hex) of a row's content and of the hash before it."""
    content = [entry.number, (entry.at - EPOCH) // MICROSECOND, entry.who, entry.kind, entry.action, entry.site]
    return sha256(json.dumps([*content, entry.detail, entry.previous]).encode()).hexdigest()


def verify(reader: StoreReader) -> tuple[list[str], int, str]:
    """What is wrong with the audit log, each line with the row; then its newest number and hash.

    A row whose content was changed, one that was changed with its hash, and rows that were taken out or put in are found.
    Whoever rewrites every row to the end, or takes the newest ones away, is found by nothing inside the store: note the newest
    number and hash elsewhere now and then, and compare them with `hash_of`.
    """
    wrong: list[str] = []
    number, newest = 0, FIRST
    for entry in _entries(reader):
        if entry.number != number + 1:
            gone = f"row {number + 1}" if entry.number == number + 2 else f"rows {number + 1} to {entry.number - 1}"
            wrong.append(f"{gone}: missing")
        elif entry.previous != newest and chained(entry) == entry.hash:
            wrong.append(f"row {max(1, number)}: changed, with its hash")
        if chained(entry) != entry.hash:
            wrong.append(f"row {entry.number}: changed after it was written")
        number, newest = entry.number, entry.hash
    return wrong, number, newest


def _entries(reader: StoreReader) -> Iterator[Entry]:
    with reader.reading() as connection:
        found = connection.execution_options(yield_per=1000).execute(select(AUDIT).order_by(AUDIT.c.number))
        for row in found:
            yield Entry(*row)


def hash_of(reader: StoreReader, number: int) -> str | None:
    """The hash of one row of the audit log, to be compared with one that was noted elsewhere."""
    with reader.reading() as connection:
        return connection.execute(select(AUDIT.c.hash).where(AUDIT.c.number == number)).scalar_one_or_none()


def is_new(reader: StoreReader) -> bool:
    """Whether nobody can log in or call the API yet."""
    with reader.reading() as connection:
        found = (connection.execute(select(func.count()).select_from(each)).scalar_one() for each in (USERS, API_KEYS))
        return not any(found)


def _hash(secret: str) -> str:
    """Of a random secret, which no dictionary has: a quick hash will do."""
    return sha256(secret.encode()).hexdigest()


def _named(name: str) -> str:
    if not NAME.fullmatch(name):
        raise AccessError(f"name: expected 1 to 64 printable characters, no space at the ends, got {name!r}")
    return name


def _role(role: str) -> str:
    if role not in get_args(Role):
        raise AccessError(f"role: expected one of {', '.join(get_args(Role))}, got {role!r}")
    return role


def _listed(sites: Iterable[str] | None) -> str | None:
    return None if sites is None else json.dumps(sorted(set(sites)))


def _sites(listed: str | None) -> frozenset[str] | None:
    return None if listed is None else frozenset(json.loads(listed))


def _user(row: Row[Any]) -> User:  # Any: columns
    return User(row.name, row.role, _sites(row.sites), row.created, row.password, row.subject)


def _key(row: Row[Any]) -> Key:  # Any: columns
    return Key(row.id, row.name, row.role, _sites(row.sites), row.created, row.ends, row.used)

"""Vectors on disk, encrypted: of who is in the shop, a key a visit, wrapped by a key of the day; of guests, a key for each."""

import io
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from threading import RLock

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from passerby.files import write_bytes
from passerby.service.erasure import mark
from passerby.shop import SightingKey
from passerby.types import Float32, PrivacyError

MAGIC = b"passerby vault 1\n"
KEY_FILE = re.compile(r"(\d{4}-\d\d-\d\d)\.[0-9a-f]{16}\.key")
STATE = "state"  # what the associator knows beside vectors; it is no visit's


@dataclass(frozen=True, slots=True)
class _Sealed:
    """Something encrypted: with which day's key its own key is wrapped, and its bytes."""

    mark: str
    key: str  # the name of the day's key file
    wrapped: bytes
    content: bytes  # 12 bytes of nonce, then AES-GCM's


class Vault:
    """A folder with a snapshot of the vectors of visits that are not over, and with the keys of the days that open it.

    The snapshot, `snapshot`, may be copied: it holds ciphertext and wrapped keys only. `keys/` must not be: without it no copy
    tells anything. Where a visit is erased, the other visits' keys of its day are wrapped anew with a new key and the old one
    is destroyed, so that no copy made before opens any more. A key is destroyed by overwriting its file; a disk that keeps
    old versions of files, as snapshots of file systems do, keeps the keys too.
    """

    def __init__(self, folder: Path) -> None:
        self._file, self._keys = folder / "snapshot", folder / "keys"
        self._lock = RLock()  # one change at a time
        self._keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._days = self._read_keys()
        used = {each.key for each in self._read()}
        for name in [name for name in self._days if name not in used]:  # of a change that was cut off
            self._destroy(name)

    def save(
        self,
        state: bytes,
        vectors: Mapping[SightingKey, Float32],
        *,
        visit_of: Mapping[SightingKey, str],
        day_of: Mapping[str, date],
        today: date,
    ) -> None:
        """Replace the snapshot: the associator's `state` and the vectors (n, length) of each sighting.

        `visit_of` says whose visit a sighting is; one of nobody's has a key of its own. `day_of` says on which day, by the
        site's clock, a visit began; one that is not there began `today`, whose key the state has.
        """
        groups: dict[str, dict[SightingKey, Float32]] = {}
        days: dict[str, date] = {}
        for key, rows in vectors.items():
            visit = visit_of.get(key)
            name = mark(*key) if visit is None else mark(key.site, visit)
            groups.setdefault(name, {})[key] = rows
            days[name] = today if visit is None else day_of.get(visit, today)
        with self._lock:
            sealed = [self._seal(STATE, state, today)]
            sealed += [self._seal(name, _packed(group), days[name]) for name, group in groups.items()]
            self._write(sealed)
            used = {each.key for each in sealed}
            for name in [name for name in self._days if name not in used]:
                self._destroy(name)

    def load(self) -> tuple[bytes, dict[SightingKey, Float32]] | None:
        """The state and the vectors that can still be opened; None where there is no state, as after an erasure.

        Raises PrivacyError where the snapshot was changed or damaged.
        """
        state, vectors = None, dict[SightingKey, Float32]()
        for each in self._read():
            if each.key in self._days:
                content = self._open(each)
                if each.mark == STATE:
                    state = content
                else:
                    vectors |= _unpacked(content)
        return None if state is None else (state, vectors)

    def erase(self, site: str, visit: str, sightings: Iterable[SightingKey] = ()) -> bool:
        """Destroy the keys of a visit and of sightings that had none of their own; whether there were any.

        The state is dropped, for it speaks of the visit too: whoever holds it saves it anew, without it. Copies of the snapshot
        that were made before open no more, for the other visits of that day neither.
        """
        with self._lock:
            return self._erase({mark(site, visit), *(mark(*key) for key in sightings)})

    def _erase(self, gone: set[str]) -> bool:
        there = [each for each in self._read() if each.key in self._days]
        touched = {each.key for each in there if each.mark in gone}
        if not touched:
            return False
        touched |= {each.key for each in there if each.mark == STATE}
        new = {name: self._new_key(self._day(name)) for name in sorted(touched)}
        left = []
        for each in there:
            if each.mark not in gone and each.mark != STATE:
                if each.key in new:
                    own = aes_key_unwrap(self._days[each.key], each.wrapped)
                    name = new[each.key]
                    each = _Sealed(each.mark, name, aes_key_wrap(self._days[name], own), each.content)
                left.append(each)
        self._write(left)
        for name in touched:
            self._destroy(name)
        return True

    def expire(self, *, before: date) -> None:
        """Destroy the keys of the days before one: what they wrapped opens no more, in no copy."""
        with self._lock:
            old = [name for name in self._days if self._day(name) < before]
            if old:
                self._write([each for each in self._read() if each.key in self._days and each.key not in old])
                for name in old:
                    self._destroy(name)

    # Keys

    def _read_keys(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self._keys.iterdir() if KEY_FILE.fullmatch(path.name)}

    def _day(self, name: str) -> date:
        return date.fromisoformat(name[:10])

    def _key_of(self, day: date) -> str:
        known = sorted(name for name in self._days if self._day(name) == day)
        return known[-1] if known else self._new_key(day)

    def _new_key(self, day: date) -> str:
        name = f"{day.isoformat()}.{secrets.token_hex(8)}.key"
        self._days[name] = _made_key(self._keys / name)
        return name

    def _destroy(self, name: str) -> None:
        _destroy_key(self._keys / name)
        del self._days[name]

    # What is sealed

    def _seal(self, name: str, content: bytes, day: date) -> _Sealed:
        own, nonce, of = AESGCM.generate_key(256), secrets.token_bytes(12), self._key_of(day)
        sealed = nonce + AESGCM(own).encrypt(nonce, content, name.encode())
        return _Sealed(name, of, aes_key_wrap(self._days[of], own), sealed)

    def _open(self, sealed: _Sealed) -> bytes:
        try:
            own = aes_key_unwrap(self._days[sealed.key], sealed.wrapped)
            return AESGCM(own).decrypt(sealed.content[:12], sealed.content[12:], sealed.mark.encode())
        except (InvalidTag, InvalidUnwrap, ValueError):
            raise PrivacyError(
                f"{self._file}: it was changed since it was written; delete it and begin without it"
            ) from None

    def _read(self) -> list[_Sealed]:
        if not self._file.is_file():
            return []
        content = self._file.read_bytes()
        try:
            if not content.startswith(MAGIC):
                raise ValueError("another beginning")
            check, header, rest = content[len(MAGIC) :].split(b"\n", 2)
            if check.decode() != sha256(header).hexdigest():
                raise ValueError("a changed list of keys")
            found = []
            for name, key, wrapped, size in json.loads(header):
                found.append(_Sealed(name, key, bytes.fromhex(wrapped), rest[:size]))
                rest = rest[size:]
                if len(found[-1].content) != size:
                    raise ValueError("it is cut off")
            return found
        except (ValueError, TypeError) as error:
            raise PrivacyError(
                f"{self._file}: expected a vault's snapshot, got {error}; delete it and begin without it"
            ) from None

    def _write(self, sealed: Iterable[_Sealed]) -> None:
        every = list(sealed)
        entries = [[each.mark, each.key, each.wrapped.hex(), len(each.content)] for each in every]
        header = json.dumps(entries).encode()
        head = [MAGIC + sha256(header).hexdigest().encode(), header]
        write_bytes(self._file, b"\n".join([*head, b"".join(each.content for each in every)]))


class Safe:
    """A folder of things that are sealed each with a key of its own: `NAME.sealed` may be copied, `keys/` must not be.

    Without its key none of them opens, in no copy. Names are such as `erasure.mark` gives.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._keys = folder, folder / "keys"
        self._lock = RLock()
        self._keys.mkdir(mode=0o700, parents=True, exist_ok=True)

    def names(self) -> set[str]:
        """Of all that is there, or half there after a crash."""
        with self._lock:
            there = [*self._folder.glob("*.sealed"), *self._keys.glob("*.key")]
            return {path.stem for path in there}

    def put(self, name: str, content: bytes) -> None:
        """Keep something, in place of what had that name. Raises OSError where it cannot be written."""
        with self._lock:
            self.destroy(name)
            key, nonce = _made_key(self._keys / f"{name}.key"), secrets.token_bytes(12)
            write_bytes(self._sealed(name), nonce + AESGCM(key).encrypt(nonce, content, name.encode()))

    def get(self, name: str) -> bytes | None:
        """What was kept under a name; None where it, or its key, is not there. Raises PrivacyError where it was changed."""
        with self._lock:
            try:
                key, sealed = (self._keys / f"{name}.key").read_bytes(), self._sealed(name).read_bytes()
            except FileNotFoundError:
                return None
        try:
            return AESGCM(key).decrypt(sealed[:12], sealed[12:], name.encode())
        except (InvalidTag, ValueError):
            raise PrivacyError(f"{self._sealed(name)}: it was changed since it was written; delete it") from None

    def destroy(self, name: str) -> bool:
        """Destroy a key, and what it sealed; whether there was any."""
        with self._lock:
            key, sealed = self._keys / f"{name}.key", self._sealed(name)
            there = key.is_file() or sealed.is_file()
            if key.is_file():
                _destroy_key(key)
            sealed.unlink(missing_ok=True)
            return there

    def _sealed(self, name: str) -> Path:
        return self._folder / f"{name}.sealed"


def _made_key(path: Path) -> bytes:
    key = AESGCM.generate_key(256)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key


def _destroy_key(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(secrets.token_bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


def _packed(vectors: Mapping[SightingKey, Float32]) -> bytes:
    file = io.BytesIO()
    keys = np.frombuffer(json.dumps(list(vectors)).encode(), np.uint8)
    arrays = {f"v{place}": np.asarray(rows, np.float32) for place, rows in enumerate(vectors.values())}
    np.savez(file, allow_pickle=False, keys=keys, **arrays)
    return file.getvalue()


def _unpacked(content: bytes) -> dict[SightingKey, Float32]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        keys = json.loads(file["keys"].tobytes())
        return {SightingKey(*key): file[f"v{place}"] for place, key in enumerate(keys)}

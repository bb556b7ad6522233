"""Vectors on disk: encrypted, one key a visit; without its key nothing of it can be read, in no copy."""

import shutil
from datetime import date

import numpy as np
import pytest

from passerby.service.vault import Vault
from passerby.shop import SightingKey
from passerby.types import PrivacyError

TODAY, YESTERDAY = date(2026, 3, 2), date(2026, 3, 1)
STATE = b"what the associator knows of visit-a and visit-b"


def key(track, camera="door"):
    return SightingKey("shop", camera, "s", track)


def rows(track):
    return np.random.default_rng(track).random((3, 16)).astype(np.float32)


VECTORS = {key(1): rows(1), key(2, "aisle"): rows(2), key(3): rows(3), key(4): rows(4)}
VISITS = {key(1): "visit-a", key(2, "aisle"): "visit-a", key(3): "visit-b"}  # 4 is nobody's yet
DAYS = {"visit-a": TODAY, "visit-b": TODAY}


def save(vault, *, days=DAYS, without=()):
    vectors = {key: rows for key, rows in VECTORS.items() if key not in without}
    vault.save(STATE, vectors, visit_of=VISITS, day_of=days, today=TODAY)


def loaded(vault):
    found = vault.load()
    return None if found is None else {key: rows.tolist() for key, rows in found[1].items()}


@pytest.fixture
def vault(tmp_path):
    made = Vault(tmp_path / "vault")
    save(made)
    return made


def test_what_was_saved_comes_back_after_a_restart(vault, tmp_path):
    again = Vault(tmp_path / "vault")
    assert again.load()[0] == STATE
    assert loaded(again) == {key: rows.tolist() for key, rows in VECTORS.items()}


def test_there_is_nothing_before_anything_was_saved(tmp_path):
    assert Vault(tmp_path / "vault").load() is None


def test_nothing_lies_there_in_clear(vault, tmp_path):
    content = (tmp_path / "vault" / "snapshot").read_bytes()
    for clear in (STATE, b"visit-a", b"visit-b", *(array.tobytes()[:8] for array in VECTORS.values())):
        assert clear not in content


def test_keys_are_readable_by_their_owner_only(vault, tmp_path):
    (key_file,) = (tmp_path / "vault" / "keys").iterdir()
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "vault" / "keys").stat().st_mode & 0o777 == 0o700
    assert key_file.name.startswith("2026-03-02.")


def test_each_visit_has_a_key_of_its_own(vault):
    sealed = vault._read()
    assert len(sealed) == 4  # the state, two visits, one sighting of nobody
    assert len({each.wrapped for each in sealed}) == 4
    assert len({each.content[:12] for each in sealed}) == 4


def test_who_is_erased_is_gone_and_the_others_are_not(vault, tmp_path):
    assert vault.erase("shop", "visit-a")
    assert vault.load() is None  # the state spoke of the visit; it is saved anew
    save(vault, without=[key(1), key(2, "aisle")])
    assert set(loaded(Vault(tmp_path / "vault"))) == {key(3), key(4)}
    assert not vault.erase("shop", "visit-a")


def test_the_others_open_right_after_an_erasure_too(vault, tmp_path):
    vault.erase("shop", "visit-a")
    again = Vault(tmp_path / "vault")
    left = {each.mark: again._open(each) for each in again._read()}
    assert len(left) == 2


def test_a_sighting_of_nobody_is_erased_by_its_own_key(vault):
    assert vault.erase("shop", "visit-c", [key(4)])
    assert len(vault._read()) == 2


def test_no_copy_made_before_tells_of_who_was_erased(vault, tmp_path):
    """A copy of the snapshot put back, with all keys that are left: nothing of it opens."""
    copy = tmp_path / "backup"
    shutil.copy(tmp_path / "vault" / "snapshot", copy)
    vault.erase("shop", "visit-a")
    shutil.copy(copy, tmp_path / "vault" / "snapshot")
    assert Vault(tmp_path / "vault").load() is None


def test_the_test_above_would_see_a_copy_that_opens(vault, tmp_path):
    copy = tmp_path / "backup"
    shutil.copy(tmp_path / "vault" / "snapshot", copy)
    save(vault, without=[key(1), key(2, "aisle")])  # the same without an erasure
    shutil.copy(copy, tmp_path / "vault" / "snapshot")
    assert key(1) in loaded(Vault(tmp_path / "vault"))


def test_no_bytes_of_a_destroyed_key_are_left(vault, tmp_path):
    (key_file,) = (tmp_path / "vault" / "keys").iterdir()
    secret = key_file.read_bytes()
    with key_file.open("rb") as held:  # whoever still has the file open sees it overwritten
        vault.erase("shop", "visit-a")
        assert held.read() != secret
    assert not key_file.exists()
    assert secret not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_days_key_goes_with_the_day(tmp_path):
    vault = Vault(tmp_path / "vault")
    save(vault, days={"visit-a": YESTERDAY, "visit-b": TODAY})
    shutil.copy(tmp_path / "vault" / "snapshot", tmp_path / "backup")
    assert len(list((tmp_path / "vault" / "keys").iterdir())) == 2
    vault.expire(before=TODAY)
    assert set(loaded(vault)) == {key(3), key(4)}
    shutil.copy(tmp_path / "backup", tmp_path / "vault" / "snapshot")
    assert set(loaded(Vault(tmp_path / "vault"))) == {key(3), key(4)}


def test_a_day_that_nobody_is_left_of_loses_its_key_at_the_next_snapshot(tmp_path):
    vault = Vault(tmp_path / "vault")
    save(vault, days={"visit-a": YESTERDAY, "visit-b": TODAY})
    save(vault, days={"visit-b": TODAY}, without=[key(1), key(2, "aisle")])
    assert [path.name[:10] for path in (tmp_path / "vault" / "keys").iterdir()] == ["2026-03-02"]


def test_an_erasure_that_was_cut_off_leaves_a_whole_vault(vault, tmp_path, monkeypatch):
    """Killed between the new key and the new snapshot, and between the new snapshot and the old key's end."""
    monkeypatch.setattr(Vault, "_write", lambda self, sealed: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        vault.erase("shop", "visit-a")
    monkeypatch.undo()
    again = Vault(tmp_path / "vault")
    assert len(loaded(again)) == 4
    assert len(list((tmp_path / "vault" / "keys").iterdir())) == 1
    monkeypatch.setattr(Vault, "_destroy", lambda self, name: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        again.erase("shop", "visit-a")
    monkeypatch.undo()
    once_more = Vault(tmp_path / "vault")
    assert len(once_more._read()) == 2
    assert len(list((tmp_path / "vault" / "keys").iterdir())) == 1


@pytest.mark.parametrize("place", [3, 40, -5])
def test_a_snapshot_that_was_changed_is_refused(vault, tmp_path, place):
    file = tmp_path / "vault" / "snapshot"
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(PrivacyError, match="begin without it"):
        Vault(tmp_path / "vault").load()


def test_a_snapshot_that_is_cut_off_is_refused(vault, tmp_path):
    file = tmp_path / "vault" / "snapshot"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(PrivacyError, match="cut off; delete it and begin without it"):
        Vault(tmp_path / "vault")


def test_one_visits_bytes_are_not_taken_for_anothers(vault, tmp_path):
    """Their names are part of what is authenticated."""
    state, first, *rest = vault._read()
    from dataclasses import replace

    vault._write([state, replace(first, mark=rest[0].mark), *rest])
    with pytest.raises(PrivacyError, match="it was changed"):
        vault.load()

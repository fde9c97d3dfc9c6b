"""Secrets at rest: nothing shows them, nothing moves them, and keys can be changed."""

import base64
import copy
import os
import pickle
import stat
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from busbar.connectors.contract import SecretBag
from busbar.connectors.secrets import (
    BadSecretKey,
    KeyRing,
    LostSecretKey,
    Secret,
    SecretTooLong,
    Undecipherable,
    find_key_ring,
    load_key_ring,
)

CANARY = "canary-7f3a-Pässwort"
OLD, NEW = b"o" * 32, b"n" * 32


def in_base64(key: bytes) -> str:
    return base64.b64encode(key).decode()


class TestASecret:
    def test_shows_itself_in_no_way_of_printing(self) -> None:
        secret = Secret(CANARY)
        bag = SecretBag({"password": secret})
        for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", f"{bag} {bag!r}", str([secret])):
            assert "canary" not in shown
        assert "password" in repr(bag)

    def test_is_taken_out_of_a_text_also_where_only_one_of_several_or_its_token_stands(self) -> None:
        keys = ("whsec_" + "Q0FOQVJZ" * 4, "whsec_" + "bmV3ZXIx" * 4)
        bag = SecretBag({"webhook_secret": Secret(" ".join(keys)), "authorization": Secret("Bearer 0123456789abc")})
        told = f"keys {keys[0]} and {keys[1]}, and the token 0123456789abc"
        assert bag.redacted(told) == "keys [redacted] and [redacted], and the token [redacted]"

    def test_cannot_be_encoded_pickled_or_copied(self) -> None:
        with pytest.raises(TypeError):
            msgspec.json.encode({"password": Secret(CANARY)})
        for leak in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError):
                leak(Secret(CANARY))

    def test_is_equal_by_value_and_has_no_hash(self) -> None:
        assert Secret("a") == Secret("a")
        assert Secret("a") != Secret("b")
        assert Secret("a") != "a"
        with pytest.raises(TypeError):
            hash(Secret("a"))


class TestSealing:
    @given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200))
    def test_gives_back_what_was_sealed(self, text: str) -> None:
        ring = KeyRing(NEW)
        sealed = ring.seal(Secret(text), endpoint_id="itsm-north", name="password")
        assert ring.open(sealed, endpoint_id="itsm-north", name="password").reveal() == text

    def test_hides_the_value_and_differs_each_time(self) -> None:
        ring = KeyRing(NEW)
        one = ring.seal(Secret(CANARY), endpoint_id="e", name="n")
        two = ring.seal(Secret(CANARY), endpoint_id="e", name="n")
        assert one != two
        assert CANARY.encode() not in base64.urlsafe_b64decode(one.rsplit(":", 1)[1])

    @pytest.mark.parametrize(("endpoint_id", "name"), [("other", "bc"), ("a", "other"), ("ab", "c"), ("", "abc")])
    def test_a_value_copied_to_another_place_cannot_be_opened(self, endpoint_id: str, name: str) -> None:
        ring = KeyRing(NEW)
        sealed = ring.seal(Secret(CANARY), endpoint_id="a", name="bc")
        with pytest.raises(Undecipherable):
            ring.open(sealed, endpoint_id=endpoint_id, name=name)

    @given(st.integers(0, 10**6), st.integers(0, 7))
    def test_any_changed_bit_is_noticed(self, position: int, bit: int) -> None:
        ring = KeyRing(NEW)
        head, box_text = ring.seal(Secret(CANARY), endpoint_id="e", name="n").rsplit(":", 1)
        box = bytearray(base64.urlsafe_b64decode(box_text))
        box[position % len(box)] ^= 1 << bit
        with pytest.raises(Undecipherable):
            ring.open(f"{head}:{base64.urlsafe_b64encode(bytes(box)).decode()}", endpoint_id="e", name="n")

    @pytest.mark.parametrize("text", ["", "busbar1:", CANARY, "busbar1:0123456789abcdef:AAAA", "busbar1:x:%%%"])
    def test_what_is_no_sealed_value_is_refused_without_showing_it(self, text: str) -> None:
        with pytest.raises(Undecipherable) as refusal:
            KeyRing(NEW).open(text, endpoint_id="e", name="n")
        assert "canary" not in "".join(traceback.format_exception(refusal.value))

    def test_a_value_that_is_too_long_is_refused(self) -> None:
        with pytest.raises(SecretTooLong):
            KeyRing(NEW).seal(Secret("x" * 16_385), endpoint_id="e", name="n")


class TestChangingTheKey:
    def test_old_values_stay_readable_and_move_to_the_new_key(self) -> None:
        sealed = KeyRing(OLD).seal(Secret(CANARY), endpoint_id="e", name="n")
        both = KeyRing(NEW, OLD)
        assert not both.is_current(sealed)
        moved = both.reseal(sealed, endpoint_id="e", name="n")
        assert both.is_current(moved)
        assert KeyRing(NEW).open(moved, endpoint_id="e", name="n").reveal() == CANARY

    def test_a_missing_key_is_named(self) -> None:
        sealed = KeyRing(OLD).seal(Secret(CANARY), endpoint_id="e", name="n")
        with pytest.raises(Undecipherable, match=KeyRing(OLD).primary_id):
            KeyRing(NEW).open(sealed, endpoint_id="e", name="n")

    def test_the_ring_shows_no_key(self) -> None:
        key = os.urandom(32)
        shown = repr(KeyRing(key))
        assert key.hex()[:8] not in shown
        assert in_base64(key)[:8] not in shown


class TestLoading:
    def test_makes_a_key_that_only_its_owner_reads_and_keeps_it(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        ring = load_key_ring(home=home, environ={})
        assert stat.S_IMODE((home / "secret.key").stat().st_mode) == 0o600
        assert [path.name for path in home.iterdir()] == ["secret.key"]
        assert load_key_ring(home=home, environ={}).primary_id == ring.primary_id

    def test_processes_that_start_at_once_get_the_same_key(self, tmp_path: Path) -> None:
        with ThreadPoolExecutor(16) as pool:
            rings = list(pool.map(lambda _: load_key_ring(home=tmp_path, environ={}), range(64)))
        assert len({ring.primary_id for ring in rings}) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]

    def test_the_variable_comes_first_and_makes_no_file(self, tmp_path: Path) -> None:
        ring = load_key_ring(home=tmp_path, environ={"BUSBAR_SECRET_KEY": f"{in_base64(NEW)},{in_base64(OLD)}"})
        assert ring.key_ids == KeyRing(NEW, OLD).key_ids
        assert list(tmp_path.iterdir()) == []

    def test_values_of_the_file_stay_readable_after_a_move_to_the_variable(self, tmp_path: Path) -> None:
        sealed = load_key_ring(home=tmp_path, environ={}).seal(Secret(CANARY), endpoint_id="e", name="n")
        ring = load_key_ring(home=tmp_path, environ={"BUSBAR_SECRET_KEY": in_base64(NEW)})
        assert ring.primary_id == KeyRing(NEW).primary_id
        assert ring.open(sealed, endpoint_id="e", name="n").reveal() == CANARY

    def test_a_file_that_others_can_read_is_refused_with_the_cure(self, tmp_path: Path) -> None:
        load_key_ring(home=tmp_path, environ={})
        (tmp_path / "secret.key").chmod(0o640)
        with pytest.raises(BadSecretKey, match="chmod 600"):
            load_key_ring(home=tmp_path, environ={})

    @pytest.mark.parametrize("text", ["short", in_base64(b"x" * 31), in_base64(b"x" * 33), "nötig", "*" * 44])
    def test_a_weak_or_broken_key_is_refused_and_not_shown(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(BadSecretKey) as refusal:
            load_key_ring(home=tmp_path, environ={"BUSBAR_SECRET_KEY": text})
        assert text not in refusal.value.detail

    def test_an_emptied_file_is_an_error_and_not_a_reason_for_a_new_key(self, tmp_path: Path) -> None:
        path = tmp_path / "secret.key"
        path.touch(0o600)
        with pytest.raises(BadSecretKey, match="empty"):
            load_key_ring(home=tmp_path, environ={})

    def test_no_new_key_is_made_where_one_is_in_use(self, tmp_path: Path) -> None:
        with pytest.raises(LostSecretKey, match=r"restore .*secret\.key from a backup"):
            load_key_ring(home=tmp_path, environ={}, in_use=True)
        assert list(tmp_path.iterdir()) == []
        assert find_key_ring(home=tmp_path, environ={}) is None

    def test_a_key_that_is_in_use_is_found_in_the_file_or_the_variable(self, tmp_path: Path) -> None:
        made = load_key_ring(home=tmp_path, environ={})
        assert load_key_ring(home=tmp_path, environ={}, in_use=True).primary_id == made.primary_id
        environ = {"BUSBAR_SECRET_KEY": in_base64(NEW)}
        assert load_key_ring(home=tmp_path / "empty", environ=environ, in_use=True).key_ids == KeyRing(NEW).key_ids

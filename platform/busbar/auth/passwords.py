"""Hashes and checks passwords with Argon2id, in two threads with a short queue, so that logins stall nothing else."""

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Final, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError

from busbar.errors import FieldError, InvalidPayload, Unavailable

T = TypeVar("T")

PASSWORD_CHARACTERS_MIN: Final = 12
PASSWORD_CHARACTERS_MAX: Final = 128
WORKERS: Final = 2
WAITING_MAX: Final = 8
"""Checks that may wait for a worker; at about 40 ms each that is a fifth of a second."""

# OWASP Password Storage Cheat Sheet: 19 MiB, two passes, one lane. A dearer hash stalls two cores (LESSONS H4).
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, type=Type.ID)


class WeakPassword(InvalidPayload):
    """The new password is too short, too long, or the user's own name."""


def check_policy(password: str, *, username: str, field: str = "password") -> None:
    """Refuse a new password that is too easy: 12 to 128 characters and not the user name; no composition rules.

    The rule follows NIST SP 800-63B and OWASP ASVS 6.2.

    Raises:
        WeakPassword: naming `field`.
    """
    if not PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX:
        message = f"A password has {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters."
    elif password.strip().casefold() == username.casefold() or len(set(password)) < 4:
        message = "The password is too easy to guess."
    else:
        return
    raise WeakPassword(message, errors=[FieldError(field=field, message=message)])


class Passwords:
    """The two worker threads; one instance serves a process."""

    def __init__(self) -> None:
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="password")
        self._busy = 0

    def close(self) -> None:
        """Let the threads end once they have nothing to do."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """The Argon2id hash of a password, with its parameters and salt.

        Raises:
            Unavailable: too many are being checked already.
        """
        return await self._run(_hash, password)

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether the password is the one that `stored` was made of; None takes as long, and is never right.

        Raises:
            Unavailable: too many are being checked already.
        """
        return await self._run(_verify, password, stored)

    async def _run(self, work: Callable[..., T], *arguments: str | None) -> T:
        if self._busy >= WORKERS + WAITING_MAX:
            raise Unavailable("Too many people sign in at once; try again in a moment.", retry_after_s=2)
        self._busy += 1
        job = self._workers.submit(work, *arguments)
        # Counted by the job, not by its caller: a request that is cancelled leaves the thread at work.
        loop = asyncio.get_running_loop()
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._finished))
        return await asyncio.wrap_future(job)

    def _finished(self) -> None:
        self._busy -= 1


def is_outdated(stored: str) -> bool:
    """Whether the hash was made with other parameters than today's, and should be made anew at the next login."""
    return _HASHER.check_needs_rehash(stored)


def _hash(password: str) -> str:
    return _HASHER.hash(_normalised(password))


def _verify(password: str, stored: str | None) -> bool:
    try:
        _HASHER.verify(_nobodys_hash() if stored is None else stored, _normalised(password))
    except VerifyMismatchError:
        return False
    return stored is not None


@lru_cache(maxsize=1)
def _nobodys_hash() -> str:
    """What an unknown user's password is compared with, so that the answer takes as long as for a known one."""
    return _HASHER.hash(secrets.token_urlsafe(32))


def _normalised(password: str) -> str:
    # One and the same character can be typed in several ways (NIST SP 800-63B, 5.1.1.2).
    return unicodedata.normalize("NFKC", password)

"""Conditional requests (RFC 9110, section 13): who changes something names the version it is based on.

Two people who change the same thing at once: one wins, the other gets 412, never a lost update (SPEC R1.5).
"""

import re
from typing import Annotated, Final, TypeVar

import msgspec
from litestar import Response
from litestar.params import HeaderParameter

from busbar.errors import BadFormat, PreconditionRequired, StaleVersion
from busbar.web.text import ENTITY_TAGS

T = TypeVar("T")

_LIST: Final = re.compile(ENTITY_TAGS)
_TAG: Final = re.compile(r'(W/)?"([!#-~]*)"')
_VERSION: Final = re.compile(r"v([0-9]{1,18})")
_HEADER_CHARACTERS_MAX: Final = 1_000

IfMatchHeader = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        max_length=_HEADER_CHARACTERS_MAX,
        pattern=ENTITY_TAGS,
        description='The ETag of the version that the change is based on, for example "v3"; * is any version.',
    ),
]
"""The parameter of a handler that changes something."""


class IfMatch(msgspec.Struct, frozen=True, kw_only=True):
    """What an If-Match header asks for."""

    any_version: bool = False
    versions: tuple[int, ...] = ()

    def allows(self, version: int) -> bool:
        """Whether the change may go ahead on `version`."""
        return self.any_version or version in self.versions

    def require(self, version: int) -> None:
        """Refuse the change unless it is based on `version`, the current one.

        Raises:
            StaleVersion: 412, with the current ETag as a header and the member `current_version`.
        """
        if not self.allows(version):
            raise StaleVersion(
                "Somebody else changed it meanwhile; read it again and repeat the change.",
                headers={"ETag": etag(version)},
                members={"current_version": version},
            )


ANY_VERSION: Final = IfMatch(any_version=True)
"""The change is to be made whatever the version is."""


def etag(version: int) -> str:
    """The strong entity tag of a version, with its quotes: `"v3"`."""
    return f'"v{version}"'


def parse_if_match(header: str | None, *, required: bool = True) -> IfMatch:
    """Read an If-Match header.

    Weak tags and tags that are not ours match nothing, for If-Match compares strongly. Without a header any version
    will do if it is not `required`.

    Raises:
        PreconditionRequired: 428, no header.
        BadFormat: it is neither `*` nor a list of entity tags.
    """
    if header is None:
        if required:
            raise PreconditionRequired(
                'Name the version your change is based on: If-Match: "v3", from the ETag header.'
            )
        return ANY_VERSION
    if header.strip() == "*":
        return ANY_VERSION
    return IfMatch(versions=_versions(header))


def _versions(header: str) -> tuple[int, ...]:
    """The versions that strong tags of ours name; weak ones and others' match nothing."""
    if len(header) > _HEADER_CHARACTERS_MAX or not _LIST.search(header.strip()):
        raise BadFormat('If-Match holds * or entity tags in quotes, for example "v3".')
    tags = [tag for weak, tag in _TAG.findall(header) if not weak]
    return tuple(int(version[1]) for tag in tags if (version := _VERSION.fullmatch(tag)))


def versioned(
    content: T, version: int, *, status_code: int = 200, headers: dict[str, str] | None = None
) -> Response[T]:
    """An answer that carries the version of its content as ETag."""
    return Response(content, status_code=status_code, headers={**(headers or {}), "ETag": etag(version)})

"""Routes declare who may call them."""

import pytest
from litestar import Litestar, get

from busbar.web.access import ANYONE, AUTHENTICATED, SIGNED, declared, declared_access, is_open, needs


def handler_with(opt):
    @get("/", opt=opt)
    async def handler() -> None: ...

    return Litestar([handler], openapi_config=None).routes[0].route_handlers[0]  # type: ignore[union-attr]


class TestDeclaration:
    def test_is_read_back_from_the_route(self) -> None:
        assert declared_access(handler_with(needs("pm.read"))) == "pm.read"
        assert declared_access(handler_with(ANYONE)) == declared(ANYONE)

    def test_that_is_missing_opens_nothing(self) -> None:
        handler = handler_with({})
        assert declared_access(handler) is None
        assert not is_open(handler)

    def test_opens_only_what_says_so(self) -> None:
        assert [is_open(handler_with(opt)) for opt in (ANYONE, SIGNED, AUTHENTICATED, needs("pm.read"))] == [
            True, True, False, False
        ]  # fmt: skip

    @pytest.mark.parametrize("permission", ["", "pm", "pm.", ".read", "pm read", "*", "*anyone", "pm.*", "pm..read"])
    def test_of_a_mistyped_permission_is_refused(self, permission: str) -> None:
        with pytest.raises(ValueError, match=r"<module>\.<verb>"):
            needs(permission)

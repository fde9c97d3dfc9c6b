"""Conditional requests: a change names the version it is based on."""

import httpx
import pytest

from busbar.errors import BadFormat, PreconditionRequired, StaleVersion
from busbar.web.conditional import parse_if_match


class TestChange:
    @pytest.mark.parametrize("header", ['"v3"', "*", ' "v3" ', '"v2", "v3"', '"other,tag", "v3"'])
    def test_goes_ahead_on_the_version_it_names(self, header: str) -> None:
        parse_if_match(header).require(3)

    @pytest.mark.parametrize("header", ['"v2"', 'W/"v3"', '"3"', '""', '"v03x"'])
    def test_is_refused_on_any_other(self, header: str) -> None:
        with pytest.raises(StaleVersion) as refused:
            parse_if_match(header).require(3)
        assert refused.value.headers["ETag"] == '"v3"'
        assert refused.value.members["current_version"] == 3

    @pytest.mark.parametrize("header", ["v3", "3", "", '"v3', "*,*", '"v3";', "\x00", '"v3" "v4"', '"' * 1_001])
    def test_is_refused_when_the_header_is_malformed(self, header: str) -> None:
        with pytest.raises(BadFormat):
            parse_if_match(header)

    def test_needs_the_header_unless_told_otherwise(self) -> None:
        with pytest.raises(PreconditionRequired):
            parse_if_match(None)
        parse_if_match(None, required=False).require(3)

    @pytest.mark.parametrize(
        ("headers", "status"),
        [({}, 428), ({"If-Match": '"v2"'}, 412), ({"If-Match": "v3"}, 400), ({"If-Match": '"v3"'}, 200)],
    )
    async def test_is_answered_so_by_a_route(self, client: httpx.AsyncClient, headers, status: int) -> None:
        response = await client.patch("/assets/a", headers=headers)
        assert response.status_code == status
        if status == 200:
            assert response.headers["ETag"] == '"v4"'

"""What an operator can allow, and how far each entry reaches."""

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from busbar.connectors import egress_url
from busbar.connectors.egress import BadAllowEntry, Gate, read_allow_entry, read_allow_list
from busbar.connectors.egress_url import EgressRefused, Target, read_url

NAMES = {
    "erp.utility.example": ["10.20.1.5"],
    "acme.service-now.example": ["8.8.8.8"],
    "evil.service-now.example": ["10.20.1.5"],
    "mixed.service-now.example": ["8.8.8.8", "10.20.1.5"],
    "carrier.service-now.example": ["100.64.0.1"],
    "unlisted.example": ["10.20.1.5"],
    "elsewhere.example": ["10.99.1.5"],
}


async def lookup(host: str, port: int) -> Sequence[str]:
    if host not in NAMES:
        raise OSError("no such name")
    return NAMES[host]


def gate(*lines: str) -> Gate:
    return Gate(allow=read_allow_list(lines), lookup=lookup)


ALLOWED = [
    (["erp.utility.example"], "https://erp.utility.example/sap/opu"),
    (["erp.utility.example"], "https://ERP.Utility.Example/"),
    (["erp.utility.example"], "https://erp.utility.example:443/"),
    (["erp.utility.example:8443"], "https://erp.utility.example:8443/"),
    (["erp.utility.example:443,44300"], "https://erp.utility.example:44300/"),
    (["http://erp.utility.example"], "http://erp.utility.example/"),
    (["http://erp.utility.example:8000"], "http://erp.utility.example:8000/"),
    (["*.service-now.example"], "https://acme.service-now.example/api/now/table/incident?sysparm_limit=1"),
    (["10.20.0.0/16"], "https://10.20.1.5/"),
    (["10.20.1.5"], "https://10.20.1.5/"),
    (["10.20.0.0/16"], "https://unlisted.example/"),
    (["*.service-now.example", "10.20.0.0/16"], "https://evil.service-now.example/"),
    (["*.service-now.example", "10.20.0.0/16"], "https://mixed.service-now.example/"),
    (["fd12:3456::/32"], "https://[fd12:3456::1]/"),
    (["[fd12:3456::/32]:8443"], "https://[fd12:3456::1]:8443/"),
    (["fd12:3456::1"], "https://[fd12:3456:0::1]/"),
]

REFUSED = [
    ([], "https://erp.utility.example/"),
    (["erp.utility.example"], "http://erp.utility.example/"),
    (["http://erp.utility.example"], "https://erp.utility.example/"),
    (["erp.utility.example"], "https://erp.utility.example:8443/"),
    (["erp.utility.example"], "https://erp.utility.example:5432/"),
    (["erp.utility.example:8443"], "https://erp.utility.example/"),
    (["erp.utility.example"], "https://sub.erp.utility.example/"),
    (["erp.utility.example"], "https://erp.utility.example.evil.example/"),
    (["erp.utility.example"], "https://10.20.1.5/"),
    (["*.service-now.example"], "https://service-now.example/"),
    (["*.service-now.example"], "https://evilservice-now.example/"),
    (["*.service-now.example"], "https://acme.service-now.example.evil.example/"),
    (["*.service-now.example"], "https://evil.service-now.example/"),
    (["*.service-now.example"], "https://mixed.service-now.example/"),
    (["*.service-now.example"], "https://carrier.service-now.example/"),
    (["10.20.0.0/16"], "https://10.21.0.1/"),
    (["10.20.0.0/16"], "https://10.20.1.5:5672/"),
    (["10.20.0.0/16"], "http://10.20.1.5:443/"),
    (["10.20.0.0/16"], "https://elsewhere.example/"),
    (["10.20.0.0/16"], "https://no-such-name.example/"),
    (["http://10.99.0.0/16:443", "10.20.0.0/16"], "http://unlisted.example:443/"),
    (["fd12:3456::/32"], "https://[fd12:3457::1]/"),
]


class TestTheGate:
    @pytest.mark.parametrize(("lines", "url"), ALLOWED)
    async def test_lets_pass_what_the_operator_allowed(self, lines: list[str], url: str) -> None:
        assert isinstance(await gate(*lines).check(url), Target)

    @pytest.mark.parametrize(("lines", "url"), REFUSED)
    async def test_refuses_everything_else(self, lines: list[str], url: str) -> None:
        with pytest.raises(EgressRefused):
            await gate(*lines).check(url)

    async def test_tells_the_operator_what_to_do(self) -> None:
        with pytest.raises(EgressRefused, match=r"https://erp.utility.example:443 is not on the allow-list"):
            await gate().check("https://erp.utility.example/")

    async def test_does_not_tell_what_a_name_resolves_to(self) -> None:
        with pytest.raises(EgressRefused) as refusal:
            await gate("*.service-now.example").check("https://evil.service-now.example/")
        assert "10.20" not in refusal.value.detail

    def test_refuses_a_name_before_any_lookup_when_no_entry_could_allow_it(self) -> None:
        with pytest.raises(EgressRefused):
            gate("*.service-now.example").check_url("https://erp.utility.example/")


class TestEntries:
    @pytest.mark.parametrize(
        "line",
        [
            "*",
            "*.",
            "*.*.example",
            "erp.*.example",
            "ftp://erp.example",
            "https://",
            "https://erp.example/",
            "user@erp.example",
            "erp.example:",
            "erp.example:0",
            "erp.example:65536",
            "erp.example:http",
            "erp.example:443,",
            "erp.example:٤٤٣",
            "erp.example:" + ",".join(str(n) for n in range(1, 34)),
            "erp example",
            "erp.example.",
            "127.1",
            "2130706433",
            "0.0.0.0/0",
            "10.0.0.0/7",
            "::/0",
            "2000::/3",
            "10.20.1.5/16",
            "10.20.0.0/33",
            "127.0.0.1",
            "127.0.0.0/8",
            "169.254.169.254",
            "224.0.0.0/8",
            "[::1]:443",
            "fe80::/10",
            "64:ff9b::/96",
            "[10.0.0.1]:443",
            "[fd12::1",
            "[fd12::1]443",
            "прибор.example",
        ],
    )
    def test_that_cannot_be_meant_are_refused_by_name(self, line: str) -> None:
        with pytest.raises(BadAllowEntry) as refusal:
            read_allow_entry(line)
        assert refusal.value.detail.startswith(line)

    def test_comments_and_blank_lines_are_left_out(self) -> None:
        entries = read_allow_list(["# ServiceNow", "", "  *.service-now.example  ", "   # ERP", "10.20.0.0/16"])
        assert [entry.text for entry in entries] == ["*.service-now.example", "10.20.0.0/16"]

    def test_are_limited_in_number(self) -> None:
        with pytest.raises(BadAllowEntry):
            read_allow_list([f"host{n}.example" for n in range(1_001)])


class TestReadingAnAddress:
    @pytest.mark.parametrize(
        ("url", "scheme", "host", "port"),
        [
            ("https://erp.example", "https", "erp.example", 443),
            ("http://erp.example/", "http", "erp.example", 80),
            ("https://erp.example:8443/a/b?c=d%20e", "https", "erp.example", 8443),
            ("https://ERP.example/", "https", "erp.example", 443),
            ("https://10.20.1.5/", "https", "10.20.1.5", 443),
            ("https://[FD12:0:0::1]:8443/", "https", "fd12::1", 8443),
            ("https://xn--mnchen-3ya.example/", "https", "xn--mnchen-3ya.example", 443),
            ("http://simulator_itsm:9001/", "http", "simulator_itsm", 9001),
            ("https://erp.example?x=1", "https", "erp.example", 443),
        ],
    )
    def test_finds_scheme_host_and_port(self, url: str, scheme: str, host: str, port: int) -> None:
        assert read_url(url) == Target(scheme=scheme, host=host, port=port)  # type: ignore[arg-type]

    @given(st.one_of(st.text(max_size=60), st.from_regex(r"https?://[ -~]{0,40}", fullmatch=True)))
    @example("http://[::ffff:127.0.0.1]:8080/")
    def test_refuses_or_agrees_with_other_readers(self, url: str) -> None:
        try:
            target = read_url(url)
        except EgressRefused:
            return
        other = urlsplit(url)
        assert (other.scheme, other.port or target.port) == (target.scheme, target.port)
        host = ip_address(other.hostname) if target.address and other.hostname else other.hostname
        assert str(host) == target.host
        assert other.username is None

    def test_refuses_what_the_http_client_would_send_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No such address is known for the client of today; this holds the guard for the client of tomorrow."""
        monkeypatch.setattr(egress_url, "URL", lambda text: URL(text).with_host("127.0.0.1"))
        with pytest.raises(EgressRefused, match="two ways"):
            read_url("https://erp.example/")

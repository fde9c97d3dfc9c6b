"""What Kong's router does with a configuration (flavour `traditional_compatible`, its default since 3.0)."""

import re
from typing import Any, NamedTuple


class Match(NamedTuple):
    """A route that takes a request, and the service behind it."""

    service: dict[str, Any]
    route: dict[str, Any]

    @property
    def needs_token(self) -> bool:
        plugins = [plugin["name"] for plugin in (*self.service["plugins"], *self.route.get("plugins", ()))]
        return "jwt" in plugins


class KongRouter:
    """The routes of a document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._routes = [
            (Match(service, route), _compiled(path))
            for service in document["services"]
            for route in service["routes"]
            for path in route["paths"]
        ]

    def matches(self, method: str, path: str) -> list[Match]:
        """The routes that Kong may take: of those whose method and path fit, all with the highest priority.

        Every route here has methods and one regular expression, so that `regex_priority` alone decides.
        """
        fitting = [match for match, pattern in self._routes if method in match.route["methods"] and pattern.match(path)]
        highest = max((match.route["regex_priority"] for match in fitting), default=0)
        return [match for match in fitting if match.route["regex_priority"] == highest]


def _compiled(path: str) -> re.Pattern[str]:
    assert path.startswith("~"), f"{path} is a prefix, which takes whole trees"
    # Kong puts the anchor before the pattern, and none behind it.
    return re.compile("^" + path[1:])

"""Who is supplied through what: the radial parts of a network and the customers behind each branch."""

from collections.abc import Mapping, Sequence

import msgspec


class Supply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `trace_supply`; branches are named by their index in the sequence that was given."""

    entering: dict[str, int]
    """For each supplied node but the source, the branch by which it was reached.

    It is the only way to the node in a radial part, and one of several in a meshed part.
    """
    upstream: dict[str, str]
    """For each supplied node but the source, the other end of that branch."""
    behind: tuple[int | None, ...]
    """For each branch, the customers who lose supply when it alone opens.

    None where a second path exists (meshed network, parallel transformers): nobody loses supply.
    """


def trace_supply(branches: Sequence[tuple[str, str]], *, source: str, customers_at: Mapping[str, int]) -> Supply:
    """Find every branch that is the only path from `source` to what lies behind it.

    `branches` are the closed ones only: lines, transformers, and switches in closed position. A branch is the only
    path exactly when it is a bridge of the graph; bridges are found by low points in one depth-first walk
    (Tarjan 1974), iterative because feeders are deeper than Python's stack. Nodes without a path to the source are
    in neither mapping, and the branches between them have nobody behind them: 0.
    """
    neighbours: dict[str, list[tuple[str, int]]] = {source: []}
    for index, (a, b) in enumerate(branches):
        neighbours.setdefault(a, []).append((b, index))
        neighbours.setdefault(b, []).append((a, index))

    number = {source: 0}
    low = {source: 0}
    entering: dict[str, int] = {}
    upstream: dict[str, str] = {}
    path = [(source, iter(neighbours[source]))]
    while path:
        node, rest = path[-1]
        for neighbour, index in rest:
            # Compared by branch, not by node: of two parallel branches the second is a way back.
            if index == entering.get(node):
                continue
            if neighbour in number:
                low[node] = min(low[node], number[neighbour])
                continue
            number[neighbour] = low[neighbour] = len(number)
            entering[neighbour] = index
            upstream[neighbour] = node
            path.append((neighbour, iter(neighbours[neighbour])))
            break
        else:
            path.pop()
            if path:
                low[path[-1][0]] = min(low[path[-1][0]], low[node])

    beyond = {node: customers_at.get(node, 0) for node in number}
    behind: list[int | None] = [None if a in number else 0 for a, _ in branches]
    for node in reversed(number):
        if node == source:
            continue
        beyond[upstream[node]] += beyond[node]
        if low[node] == number[node]:
            behind[entering[node]] = beyond[node]
    return Supply(entering=entering, upstream=upstream, behind=tuple(behind))

"""`python -m busbar.testing.broker_server`: a RabbitMQ for tests that start processes of their own.

Prints `{"url": …, "port": …, "folder": …, "nodes": [{"url": …, "port": …, "peers": {"name": "url"}}]}` when it is
ready, and stops with its standard input. Each line of input is a JSON object `{"do": "kill"}` with the name of what
`TestBroker` can do: `start`, `stop`, `kill`, `alarm_on`, `alarm_off`, `close_connections`, `queues`, `create_vhost`,
which answers with its `name` and `url`, and with `"name"`: `delete_queue`, `drop_vhost`, `leader_of`. The answer is
`{"done": …}`, or `{"failed": "sentence"}`.

`--nodes 3` makes it a cluster: `"node": 2` is then the third node. `--peer NAME=PASSWORD` adds a user.
"""

import argparse
import asyncio
import sys
from typing import Any

import msgspec

from busbar.bus.broker_users import BrokerUser, peer_user
from busbar.testing.broker import TestBroker, cluster


async def serve(size: int, peers: list[BrokerUser]) -> None:
    """Run the broker until standard input ends."""
    async with cluster(size, users=peers) as nodes:
        described = [_described(node, peers) for node in nodes]
        _say({**described[0], "folder": str(nodes[0].ground.folder), "nodes": described})
        while line := await asyncio.to_thread(sys.stdin.readline):
            request = msgspec.json.decode(line)
            try:
                _say({"done": await _do(nodes[request.get("node", 0)], request)})
            except AssertionError as error:
                _say({"failed": str(error)})


def _described(node: TestBroker, peers: list[BrokerUser]) -> dict[str, Any]:
    urls = {peer.name: node.url_of(user=peer.name, password=peer.password) for peer in peers}
    return {"url": node.url, "port": node.port, "peers": urls}


async def _do(node: TestBroker, request: dict[str, Any]) -> object:
    match request["do"]:
        case "start" | "stop" | "kill" | "alarm_on" | "alarm_off" | "close_connections" as verb:
            await getattr(node, verb)()
            return verb
        case "delete_queue":
            await node.delete_queue(request["name"])
            return request["name"]
        case "leader_of":
            return await node.leader_of(request["name"])
        case "queues":
            return await node.queues()
        case "create_vhost":
            name = await node.create_vhost()
            return {"name": name, "url": node.url_of(name)}
        case "drop_vhost":
            await node.drop_vhost(request["name"])
            return request["name"]
        case unknown:
            raise AssertionError(f"{unknown!r} is nothing that a broker can do")


def _say(answer: dict[str, object]) -> None:
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    sys.stdout.flush()


def _peer(text: str) -> BrokerUser:
    name, _, password = text.partition("=")
    return peer_user(name, password)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="A RabbitMQ for tests.")
    options.add_argument("--nodes", type=int, default=1)
    options.add_argument("--peer", type=_peer, action="append", default=[], metavar="NAME=PASSWORD")
    asked = options.parse_args()
    asyncio.run(serve(asked.nodes, asked.peer))

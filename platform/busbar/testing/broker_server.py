"""`python -m busbar.testing.broker_server`: a RabbitMQ for tests that start processes of their own.

Prints `{"url": …, "port": …, "folder": …}` when it is ready, and stops with its standard input. Each line of input is
`{"do": "kill"}` with the name of what `TestBroker` can do (`start`, `stop`, `kill`, `alarm_on`, `alarm_off`,
`close_connections`, `delete_queue` with `"name"`, `queues`); the answer is `{"done": …}`, or `{"failed": "sentence"}`.
"""

import asyncio
import sys
from typing import Any

import msgspec

from busbar.testing.broker import TestBroker, broker


async def serve() -> None:
    """Run the broker until standard input ends."""
    async with broker() as node:
        _say({"url": node.url, "port": node.port, "folder": str(node.ground.folder)})
        while line := await asyncio.to_thread(sys.stdin.readline):
            try:
                _say({"done": await _do(node, msgspec.json.decode(line))})
            except AssertionError as error:
                _say({"failed": str(error)})


async def _do(node: TestBroker, request: dict[str, Any]) -> object:
    match request["do"]:
        case "start" | "stop" | "kill" | "alarm_on" | "alarm_off" | "close_connections" as verb:
            await getattr(node, verb)()
            return verb
        case "delete_queue":
            await node.delete_queue(request["name"])
            return request["name"]
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


if __name__ == "__main__":
    asyncio.run(serve())

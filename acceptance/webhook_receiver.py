"""An independent receiver of webhooks, as a process: the reference library of Standard Webhooks verifies each message.

`python -m acceptance.webhook_receiver FOLDER PORT SECRET` writes what it takes to `taken.jsonl` and what it refuses to
`refused.jsonl`, and knows after a restart what it has taken.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError


class Receiver(ThreadingHTTPServer):
    """Takes each message once by its id."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int, secret: str) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.webhook = Webhook(secret)
        self.taken_file = folder / "taken.jsonl"
        self.refused_file = folder / "refused.jsonl"
        lines = self.taken_file.read_text().splitlines() if self.taken_file.exists() else []
        self.known = {json.loads(line)["webhook_id"] for line in lines}


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            document = self.server.webhook.verify(body, dict(self.headers.items()))
        except WebhookVerificationError as error:
            write(self.server.refused_file, {"error": str(error), "body": body.decode()})
            self.answer(401)
            return
        webhook_id = self.headers["webhook-id"]
        if document["type"] != "busbar.ping" and webhook_id not in self.server.known:
            self.server.known.add(webhook_id)
            write(self.server.taken_file, {"webhook_id": webhook_id, "document": document})
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are told by the files."""


def write(file: Path, line: dict[str, Any]) -> None:
    """Append a line that a kill cannot cut off once it was answered for."""
    with file.open("a") as opened:
        opened.write(json.dumps(line) + "\n")
        opened.flush()
        os.fsync(opened.fileno())


def main() -> None:
    """Run until killed."""
    folder, port, secret = sys.argv[1:]
    receiver = Receiver(Path(folder), int(port), secret)
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{receiver.server_port}/hooks"}) + "\n")
    sys.stdout.flush()
    receiver.serve_forever()


if __name__ == "__main__":
    main()

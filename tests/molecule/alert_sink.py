"""Takes what alerts send, by SMTP (port 2525) and HTTP (port 8099: a webhook, and SNS), on loopback. Writes each
message as a line of JSON to argv[1].
"""

import email.parser
import email.policy
import http.server
import json
import socketserver
import sys
import threading
import urllib.parse

LOCK = threading.Lock()


def keep(**message):
    with LOCK, open(sys.argv[1], "a", encoding="utf-8") as file:
        file.write(json.dumps(message) + "\n")


class Smtp(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 sink\r\n")
        while line := self.rfile.readline():
            word = line[:4].upper().strip()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (line := self.rfile.readline()) != b".\r\n":
                    lines.append(line)
                message = email.parser.BytesParser(policy=email.policy.default).parsebytes(b"".join(lines))
                keep(by="email", to=message["To"], subject=message["Subject"], text=message.get_content())
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            if word == b"QUIT":
                return


class Http(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.headers["Content-Type"].startswith("application/json"):
            keep(by="slack", to=self.path, text=json.loads(body)["text"])
            answer = b"ok"
        else:
            form = dict(urllib.parse.parse_qsl(body))
            keep(by="sns", to=form["TopicArn"], subject=form["Subject"], text=form["Message"])
            answer = b"<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


if __name__ == "__main__":
    threading.Thread(target=Server(("127.0.0.1", 2525), Smtp).serve_forever, daemon=True).start()
    Server(("127.0.0.1", 8099), Http).serve_forever()

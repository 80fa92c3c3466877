# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Airflow's REST API, of either major."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

PAGE = 100
OPTIONS = {
    "url": {"type": "str", "required": True},
    "prefix": {"type": "str", "required": True},
    "token_path": {"type": "str", "default": "", "no_log": False},
    "user": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
}


class Refused(Exception):
    """The API server says no; to ask again is of no use."""


class Api:
    """The REST API, signed in."""

    def __init__(self, args: dict[str, Any]) -> None:
        self.base, self.three = args["url"] + args["prefix"], args["prefix"].endswith("2")
        user, password = args["user"], args["password"]
        self.headers = {"Content-Type": "application/json"}
        if args["token_path"]:
            body = self.call(args["url"] + args["token_path"], {"username": user, "password": password})
            self.headers["Authorization"] = f"Bearer {body['access_token']}"
        else:
            self.headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def raw(self, url: str, body: Any = None, method: str | None = None, **headers: str) -> bytes:
        """Return the answer to a request as it is. Without a method it is GET, or POST for a request with a body."""
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, {**self.headers, **headers}, method=method),
                                        timeout=30) as response:
                answer: bytes = response.read()
                return answer
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise Refused(f"{url} answers {error.code}") from None
            raise

    def call(self, url: str, body: Any = None, method: str | None = None) -> Any:
        """Return the decoded answer to a request."""
        return json.loads(self.raw(url, body, method))

    def path(self, *parts: str) -> str:
        """Return the address of something whose name may hold any character."""
        return "/".join([self.base, *(urllib.parse.quote(part, safe="~") for part in parts)])

    def pages(self, path: str, key: str, **query: Any) -> list[Any]:
        """Return all items of a list."""
        items: list[Any] = []
        while True:
            text = urllib.parse.urlencode({**query, "limit": PAGE, "offset": len(items)}, doseq=True)
            body = self.call(f"{self.base}/{path}?{text}")
            items += body[key]
            if not body[key] or len(items) >= body["total_entries"]:
                return items


def said(error: urllib.error.HTTPError) -> str:
    """Return what the API server gives as its reason."""
    text = error.read().decode(errors="replace")
    try:
        body = json.loads(text)
        detail = body.get("detail") or body.get("title") or text
        return detail if isinstance(detail, str) else json.dumps(detail)
    except (ValueError, AttributeError):
        return text[:300]


def unreachable(args: dict[str, Any], error: Exception) -> str:
    """Return the message about an API server that could not be asked."""
    if isinstance(error, Refused):
        return (
            f"{error} to {args['user']}. Put this user's password into secrets/admin_password of airflow_config_dir on "
            "this host,"
            " or set airflow_admin_user and airflow_admin_password.")
    return f"The API server at {args['url']} does not answer: {error}. Run playbooks/verify.yml to see what is wrong."

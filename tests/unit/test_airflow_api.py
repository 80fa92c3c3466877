"""airflow_api.py: the client of Airflow's REST API."""

import email.message
import io
import json
import urllib.error
import urllib.parse

import pytest
from ansible_collections.windsock.airflow.plugins.module_utils import airflow_api

ARGS = {
    "url": "http://127.0.0.1:8080", "prefix": "/api/v2", "token_path": "/auth/token", "user": "jane",
    "password": "geheim"
}


@pytest.fixture
def server(monkeypatch):
    """An API server with 250 DAGs; server.asked is what it was asked for, and with which limit of time."""

    class Server:
        def __init__(self):
            self.asked, self.code = [], 200

        def open(self, request, timeout=None):
            self.asked.append((request.full_url, timeout, dict(request.header_items())))
            if self.code != 200:
                raise urllib.error.HTTPError(request.full_url, self.code, "no", email.message.Message(),
                                             io.BytesIO(b'{"detail": "why"}'))
            if request.full_url.endswith("/auth/token"):
                return io.BytesIO(json.dumps({"access_token": json.loads(request.data)["password"]}).encode())
            query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(request.full_url).query))
            names = [f"d{number}" for number in range(250)][int(query["offset"]) :][: int(query["limit"])]
            return io.BytesIO(json.dumps({"dags": names, "total_entries": 250}).encode())

    made = Server()
    monkeypatch.setattr(airflow_api.urllib.request, "urlopen", made.open)
    return made


def test_every_page_of_a_list_is_read(server):
    assert airflow_api.Api(ARGS).pages("dags", "dags", only="x") == [f"d{number}" for number in range(250)]
    assert len(server.asked) == 4 and all("only=x" in url for url, _timeout, _headers in server.asked[1:])


def test_no_request_waits_for_ever(server):
    airflow_api.Api(ARGS).pages("dags", "dags")
    assert all(0 < timeout <= 60 for _url, timeout, _headers in server.asked)


def test_the_password_goes_to_the_sign_in_only(server):
    airflow_api.Api(ARGS).pages("dags", "dags")
    assert [headers.get("Authorization") for _url, _timeout, headers in server.asked] == [None] + ["Bearer geheim"] * 3
    assert not [url for url, _timeout, _headers in server.asked if "geheim" in url]


@pytest.mark.parametrize("code", [401, 403])
def test_a_refusal_is_no_failure_of_the_server(server, code):
    server.code = code
    with pytest.raises(airflow_api.Refused, match=f"/auth/token answers {code}"):
        airflow_api.Api(ARGS)
    server.code = 503
    with pytest.raises(urllib.error.HTTPError) as error:
        airflow_api.Api(ARGS)
    assert airflow_api.said(error.value) == "why"

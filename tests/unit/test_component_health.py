"""What tells whether a component is well: one judgement, for the units, site.yml and check_health."""

import http.server
import json
import os
import signal
import subprocess
import threading
import time

import pytest
from airflow_runtime import component_health
from ansible_collections.windsock.airflow.plugins.module_utils import component_health as of_the_modules
from ports import free_port

BODY = {"kind": "body", "path": ["database", "status"], "value": "healthy"}


@pytest.fixture
def endpoint():
    """endpoint(status, text): the address of a server that answers this."""
    servers = []

    def serve(status, text):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_arguments):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/health"

    yield serve
    for server in servers:
        server.shutdown()


def test_the_modules_have_the_same_file():
    assert os.path.realpath(component_health.__file__) == os.path.realpath(of_the_modules.__file__)


@pytest.mark.parametrize(("status", "text", "check", "problem"), [
    (200, "", {"kind": "status"}, ""),
    (503, "", {"kind": "status"}, "URL answers 503"),
    (200, json.dumps({"database": {"status": "healthy"}}), BODY, ""),
    (200, json.dumps({"database": {"status": "unhealthy"}}), BODY, "says that database.status is unhealthy"),
    (200, json.dumps({"database": None}), BODY, "says that database.status is None"),
    (200, "<html>", BODY, "says that database.status is None"),
    (500, "<html>", BODY, "URL answers 500"),
])
def test_an_endpoint(endpoint, status, text, check, problem):
    url = endpoint(status, text)
    answer = component_health.answer_of(url, 5)
    assert component_health.answer_problem({"url": url, **check}, answer) == problem.replace("URL", url)


def test_an_endpoint_that_is_not_there():
    url = f"http://127.0.0.1:{free_port()}/health"
    problem = component_health.answer_problem({"url": url, **BODY}, component_health.answer_of(url, 5))
    assert problem.startswith(f"does not answer at {url}: ") and "refused" in problem


@pytest.mark.parametrize(("age", "good"), [(None, False), (0, True), (30, True), (31, False), (-30, True),
                                           (-31, False)])
def test_a_heartbeat(age, good):
    assert component_health.beats(age, 30) is good


def test_a_process_that_a_signal_has_stopped():
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert component_health.process(child.pid)[1] == os.getpid()
        assert not component_health.frozen(child.pid)
        os.kill(child.pid, signal.SIGSTOP)
        while not component_health.frozen(child.pid):
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
    assert component_health.process(child.pid) == ("", 0) and not component_health.frozen(child.pid)

"""The UI through the tunnel that playbooks/runbooks/open_ui.yml starts, in a browser on this machine, on a host that
Ansible reaches by SSH.
"""

import os
import pathlib
import re
import signal
import socket

import pytest
from airflow_api import Api
from playbook import play
from playwright.sync_api import expect, sync_playwright


@pytest.fixture(scope="module")
def tunnel(host):
    """The runbook's last words, and the port of the tunnel: another one than Airflow's."""
    if host.ansible.get_variables().get("ansible_connection",
                                        "ssh").removeprefix("ansible.builtin.") not in ("ssh", "smart"):
        pytest.skip("Ansible does not reach this host by SSH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = play("runbooks/open_ui", airflow_open=True, airflow_local_port=str(port), airflow_minutes=10)
    assert not done.failed, done.output
    yield done.text, port
    os.kill(int(re.search(r"To end it earlier: kill (\d+)", done.text)[1]), signal.SIGTERM)


@pytest.fixture(scope="module")
def url(tunnel):
    """The address that the runbook names, also in the command of a browser."""
    text, _port = tunnel
    return re.search(r"The UI is (?:at|in this browser: .* )(https?://\S+)", text)[1]


def test_a_person_signs_in_and_stays_at_the_address(host, setting, major, tunnel, url):
    text, port = tunnel
    assert url == f"http://localhost:{port}" or f"127.0.0.1:{port}" in text
    api = Api(host, setting, major)
    rules = re.findall(r"--host-resolver-rules=[^']+", text)
    visited = set()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=pathlib.Path(
            os.environ.get("CHROMIUM", "/usr/bin/chromium")),
                                             args=["--no-proxy-server", *rules[-1:]])
        page = browser.new_context(ignore_https_errors=True).new_page()
        page.on("request", lambda request: visited.add("/".join(request.url.removeprefix("blob:").split("/")[:3])))
        page.goto(f"{url}/")
        page.locator("#username").fill(api.user)
        page.locator("#password").fill(api.password
                                       or host.check_output(f"cat {api.config_dir}/secrets/admin_password"))
        page.locator("[type=submit]").click()
        expect(page.get_by_text("Dags" if major == 3 else "DAGs", exact=True).first).to_be_visible(timeout=60000)
        assert page.evaluate("path => fetch(path).then(answer => answer.status)", f"/api/v{major - 1}/dags") == 200
        browser.close()
    assert visited == {url}

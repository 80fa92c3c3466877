"""bin/aws-cost: the page is current, and a change of an inventory shows."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def cost(*arguments):
    return subprocess.run([sys.executable, ROOT / "bin/aws-cost", *arguments],
                          capture_output=True,
                          text=True,
                          check=False)


@pytest.fixture
def inventory(tmp_path):
    """inventory(line...): an inventory with these lines added to those of the shipped one."""

    def made(*lines):
        (tmp_path / "group_vars/all").mkdir(parents=True, exist_ok=True)
        text = (ROOT / "inventories/aws/group_vars/all/main.yml").read_text(encoding="utf-8")
        (tmp_path / "group_vars/all/main.yml").write_text("\n".join([text, *lines]) + "\n", encoding="utf-8")
        return tmp_path

    return made


def together(done):
    assert done.returncode == 0, done.stderr
    return float(done.stdout.splitlines()[-1].strip("|* ").split("**")[-1])


def test_the_page_is_current():
    done = cost("--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("lines", "more"), [
    ([], 0),
    (["aws_network_nat: false"], -(730 * (0.045 + 0.005))),
    (["aws_network_endpoints: [ssm, ssmmessages]"], 4 * 730 * 0.01),
    (["aws_rds_enabled: true"], 730 * 0.065 + 50 * 0.115 + 2 * 0.4 + 0.1),
    (["aws_rds_enabled: true", "aws_rds_multi_az: true"], 2 * (730 * 0.065 + 50 * 0.115) + 2 * 0.4 + 0.1),
    (["aws_elasticache_enabled: true"], 730 * 0.016 * 0.8 + 2 * 0.4),
    (["aws_elasticache_enabled: true", "aws_elasticache_engine: redis", "aws_elasticache_replicas: 1"],
     2 * 730 * 0.016 + 2 * 0.4),
    (["aws_instances_hosts: [{name: main, type: t3.xlarge, volume_gb: 50, groups: []}]"], 730 * 0.0832),
    (["aws_instances_hosts: [{name: main, count: 3, type: t3.large, volume_gb: 50, groups: []}]"],
     2 * (730 * 0.0832 + 50 * 0.08 + 0.1)),
])
def test_a_change_shows(inventory, lines, more):
    assert together(cost(inventory(*lines))) - together(cost(inventory())) == pytest.approx(more, abs=0.02)


def test_an_inventory_that_is_not_there_is_named():
    done = cost(ROOT / "inventories/none")
    assert done.returncode == 1 and "Name the directory of an inventory" in done.stderr


def test_what_has_no_price_is_told(inventory):
    done = cost(inventory("aws_rds_enabled: true", "aws_rds_class: db.x9.huge"))
    assert done.returncode == 1
    assert "has no price of db.x9.huge. Add its price of an hour in us-east-1 under databases." in done.stderr

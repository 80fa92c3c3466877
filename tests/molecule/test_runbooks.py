"""A running host that is broken on purpose, one fault after the other: found, named, and mended by the runbook that is named."""

from playbook import play


def test_a_healthy_host_is_called_healthy():
    done = play("health")
    assert not done.failed, done.output
    assert done.changed == 0

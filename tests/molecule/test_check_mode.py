"""A dry run on an installed host tells the truth: nothing would change."""

from playbook import play


def test_dry_run_on_the_installed_host_predicts_no_change():
    done = play("../site", "--check", "--diff")
    assert not done.failed, done.output
    assert " changed=" in done.output
    assert done.changed == 0, done.output

"""A dry run on an installed host tells the truth: nothing would change."""

import pytest
from playbook import play


# The tasks are the same for both majors. What differs between them is data.
@pytest.mark.long("upgrade", ordinary=3)
def test_dry_run_on_the_installed_host_predicts_no_change():
    done = play("../site", "--check", "--diff")
    assert not done.failed, done.output
    assert " changed=" in done.output
    assert done.changed == 0, done.output

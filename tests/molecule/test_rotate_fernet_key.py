"""One whole rotation of the Fernet key, in the other major. Scenario secrets rotates everything under load, killed at
each step.
"""

import pytest
from airflow_api import Api
from cryptography.fernet import Fernet, InvalidToken
from playbook import play

PASSWORD = "marker-of-the-rotation-3e91"


@pytest.mark.long("rotations")
def test_what_the_old_key_encrypted_is_written_anew_and_opens_with_the_new_one_alone(host, setting, major):
    def held():
        key = host.file(f"{setting('airflow_config_dir')}/secrets/fernet_key").content_string
        query = "SELECT password FROM connection WHERE conn_id = $$rotated$$"
        return key, host.check_output(f"runuser -u postgres -- psql -d airflow -Atc '{query}'")

    api = Api(host, setting, major)
    status, answer = api.ask("POST", "/connections",
                             {"connection_id": "rotated", "conn_type": "http", "password": PASSWORD})
    assert status in (200, 201), answer
    old, before = held()
    done = play("rotate_fernet_key", "-vvv", "--diff")
    assert not done.failed, done.output
    new, after = held()
    assert Fernet(new).decrypt(after).decode() == PASSWORD
    with pytest.raises(InvalidToken):
        Fernet(old).decrypt(after)
    assert Fernet(old).decrypt(
        before).decode() == PASSWORD and not [secret for secret in (old, new, PASSWORD) if secret in done.output]

#!/usr/bin/env bash
# The usual tutorial for Airflow on EC2, typed by hand: apt, PostgreSQL, a virtualenv with pip and the official
# constraints, db init, an administrator, systemd units. Runs on a bare Debian or Ubuntu host as a user with sudo, and
# ends when Airflow says that it is healthy.
#
#   AIRFLOW_VERSION=2.10.2 CONSTRAINTS=<file or URL> ./seed_tutorial.sh
#
# It is what people type, so it is not improved: no hashes, a password in a unit's configuration, the example DAGs,
# nothing tuned. Only what would stop it is repaired, and each such place says "Repaired".
set -euo pipefail
here=$(dirname -- "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=bench/steps.sh
. "$here/steps.sh"

AIRFLOW_VERSION=${AIRFLOW_VERSION:-2.10.2}
MAJOR=${AIRFLOW_VERSION%%.*}
# Repaired: nobody is there to answer questions.
apt_get() { sudo DEBIAN_FRONTEND=noninteractive apt-get "$@"; }

step "apt update and upgrade"
apt_get update
apt_get upgrade -y

step "apt install PostgreSQL, pip, venv"
apt_get install -y python3-pip python3-venv postgresql postgresql-contrib libpq-dev

step "database and role"
# Repaired: sudo to postgres from a directory that postgres may enter.
cd /
sudo -u postgres psql -c "CREATE DATABASE airflow_db;"
sudo -u postgres psql -c "CREATE USER airflow_user WITH PASSWORD 'your_strong_password';"
sudo -u postgres psql -c "GRANT ALL PRIVILEGES ON DATABASE airflow_db TO airflow_user;"
# Repaired: since PostgreSQL 15 that grant does not allow creating tables; the tutorial was written for 14.
sudo -u postgres psql -c "ALTER DATABASE airflow_db OWNER TO airflow_user;"

step "virtualenv and pip install with constraints"
mkdir ~/airflow
cd ~/airflow
python3 -m venv airflow_venv
# shellcheck disable=SC1091  # it was made one line above
source airflow_venv/bin/activate
PYTHON_VERSION="$(python3 --version | cut -d ' ' -f 2 | cut -d '.' -f 1-2)"
CONSTRAINT_URL="${CONSTRAINTS:-https://raw.githubusercontent.com/apache/airflow/constraints-${AIRFLOW_VERSION}/constraints-${PYTHON_VERSION}.txt}"
extras=postgres,amazon
# Airflow 3 keeps users only with the FAB provider.
[ "$MAJOR" -lt 3 ] || extras+=,fab
pip install "apache-airflow[${extras}]==${AIRFLOW_VERSION}" --constraint "${CONSTRAINT_URL}"

step "database schema and administrator"
export AIRFLOW_HOME=~/airflow
export AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql+psycopg2://airflow_user:your_strong_password@localhost/airflow_db
export AIRFLOW__CORE__EXECUTOR=LocalExecutor
if [ "$MAJOR" -lt 3 ]; then
  airflow db init
else
  export AIRFLOW__CORE__AUTH_MANAGER=airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager
  airflow db migrate
fi
# Repaired: --password, since nobody is there to type it.
airflow users create --username admin --firstname Jane --lastname Doe --role Admin --email admin@example.com --password admin

step "systemd units, start, until healthy"
# Repaired: the units know AIRFLOW_HOME only, so what was exported above goes into airflow.cfg ("or update airflow.cfg").
sed -i -e "s|^sql_alchemy_conn = .*|sql_alchemy_conn = $AIRFLOW__DATABASE__SQL_ALCHEMY_CONN|" \
  -e "s|^executor = .*|executor = LocalExecutor|" ~/airflow/airflow.cfg
components="webserver scheduler"
if [ "$MAJOR" -ge 3 ]; then
  components="api-server scheduler dag-processor"
  sed -i "s|^auth_manager = .*|auth_manager = $AIRFLOW__CORE__AUTH_MANAGER|" ~/airflow/airflow.cfg
fi
for component in $components; do
  sudo tee "/etc/systemd/system/airflow-$component.service" >/dev/null <<UNIT
[Unit]
Description=Airflow $component daemon
After=network.target postgresql.service

[Service]
User=$(id -un)
Group=$(id -gn)
Type=simple
Environment="AIRFLOW_HOME=$AIRFLOW_HOME"
ExecStart=$AIRFLOW_HOME/airflow_venv/bin/airflow $component
Restart=on-failure
RestartSec=5s

[Install]
WantedBy=multi-user.target
UNIT
done
sudo systemctl daemon-reload
for component in $components; do
  sudo systemctl enable --now "airflow-$component"
done
python3 "$here/healthy.py" "$MAJOR"
step

#!/usr/bin/env bash
# The floor: the least that can be done to have this Airflow running on this host. Nothing is configured, hardened,
# compiled or supervised. No installer can be much faster; how near one comes is what the benchmark shows. Runs as root
# on a bare host.
#
#   AIRFLOW_VERSION=3.3.2 LOCKS=<directory of locks> UV=<uv> ./floor.sh
set -euo pipefail
here=$(dirname -- "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=bench/steps.sh
. "$here/steps.sh"
MAJOR=${AIRFLOW_VERSION%%.*}
cd /

step "apt-get update, install PostgreSQL and python3-venv"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends postgresql python3-venv

step "role and database"
pg_lsclusters -h | grep -q online || pg_ctlcluster "$(pg_lsclusters -h | cut -d' ' -f1)" main start
runuser -u postgres -- psql -qc "CREATE ROLE airflow LOGIN PASSWORD 'floor'" -c "CREATE DATABASE airflow OWNER airflow"

step "virtualenv and hashed packages by uv"
python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
python3 -m venv --without-pip /opt/floor
UV_LINK_MODE=copy "$UV" pip install -q --python /opt/floor --require-hashes -r "$LOCKS/airflow-$AIRFLOW_VERSION-py$python.txt"

step "airflow db migrate"
useradd --system --create-home --home-dir /var/lib/floor floor
cat >/var/lib/floor/environment <<ENVIRONMENT
export AIRFLOW_HOME=/var/lib/floor AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__CORE__EXECUTOR=LocalExecutor
export AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql+psycopg2://airflow:floor@127.0.0.1/airflow PATH=/opt/floor/bin:$PATH
ENVIRONMENT
as_floor() { runuser -u floor -- bash -c ". /var/lib/floor/environment; exec $*"; }
# The virtualenv belongs to the user, so that the first start writes the bytecode for the later ones.
chown -R floor /opt/floor
as_floor airflow db migrate

step "components started, until healthy"
components="webserver scheduler"
[ "$MAJOR" -lt 3 ] || components="api-server scheduler dag-processor"
for component in $components; do
  as_floor airflow "$component" >"/var/lib/floor/$component.log" 2>&1 </dev/null &
done
python3 "$here/healthy.py" "$MAJOR"
step

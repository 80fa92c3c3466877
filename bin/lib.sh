# Shared by bin/setup, bin/sandbox, bin/test, bin/host-image, bin/docs and bin/release: messages, long steps, the
# controller's environment, Docker. Sourced, not run. The caller has set -euo pipefail and $SELF. bin/setup also runs on
# the bash 3.2 of macOS, so its functions use nothing newer.
# shellcheck shell=bash

# With CDPATH, cd may find another directory, and prints what it finds.
unset CDPATH
# The path without links: a clone that is reached by two paths has one environment and one sandbox.
ROOT=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
SELF=$ROOT/bin/${SELF##*/}
LOG_DIR=$ROOT/artifacts/logs

say() { printf '%s\n' "$*"; }

# The comment at the top of the command.
usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$SELF"; }

# die <what is wrong> [<what to do>]
die() {
  printf '\n%s: %s\n' "${0##*/}" "$1" >&2
  [ -z "${2:-}" ] || printf '  Do this: %s\n' "$2" >&2
  exit 1
}

# step <label> <what to do when it fails> <command...>: run something long and quiet, show the seconds, keep its output.
step() {
  local label=$1 hint=$2 log begin=$SECONDS rc=0 pid
  shift 2
  mkdir -p "$LOG_DIR"
  log=$LOG_DIR/$(tr '[:upper:]' '[:lower:]' <<<"$label" | tr -cs 'a-z0-9\n' -).log
  ("$@") >"$log" 2>&1 </dev/null &
  pid=$!
  if [ -t 1 ]; then
    while kill -0 $pid 2>/dev/null; do
      printf '\r  %s ... %d s ' "$label" $((SECONDS - begin))
      sleep 0.2
    done
    printf '\r\033[K'
  else
    say "  $label ..."
  fi
  wait $pid || rc=$?
  if [ $rc -ne 0 ]; then
    printf '\nThe last lines of %s:\n' "$log" >&2
    tail -n 20 "$log" >&2
    die "$label: failed after $((SECONDS - begin)) s (exit $rc)" "$hint"
  fi
  say "  $label: done in $((SECONDS - begin)) s"
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -- "$@"; fi
}

# Root is needed for packages, dockerd and debootstrap. Ask for the password now, while someone looks.
need_root() {
  [ "$(id -u)" -eq 0 ] && return
  command -v sudo >/dev/null || die "$1 needs root, and sudo is not installed" "run this as root once"
  sudo -n true 2>/dev/null || sudo -v || die "$1 needs root, and sudo refused" "run this as root once, or get sudo rights"
}

# apt_install <why> <package...>
apt_install() {
  local why=$1
  shift
  command -v apt-get >/dev/null || die "$why needs $*, and this is not a Debian or Ubuntu system" "install $* yourself, then run this again"
  need_root "Installing $*"
  step "Install $* ($why)" "read the log above; check that apt-get update works on this machine" apt_install_now "$@"
}

apt_install_now() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get install -q -y "$@"
}

# Print the first Python that ansible-core of the lock runs on: the one that PYTHON names, or one in PATH.
find_python() {
  local python
  if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python3.13 python3.12 python3.11; fi
  for python; do
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || continue
    command -v "$python"
    return
  done
  return 1
}

# Debian and Ubuntu have Python without these modules.
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# An upgrade of the system can replace the Python of .venv by one that does not find the packages there, or remove it.
venv_works() { "$ROOT/.venv/bin/python" -I -c 'import ansible' 2>/dev/null; }

# The controller's environment, made by bin/setup. That installs no packages; this does, as everything else that the
# hosts in containers need.
ensure_venv() {
  local python
  if ! venv_works && python=$(find_python) && ! has_venv "$python"; then
    apt_install "to make the controller's environment" python3-venv
  fi
  "$ROOT/bin/setup" --quiet
  export PATH=$ROOT/.venv/bin:$PATH VIRTUAL_ENV=$ROOT/.venv ANSIBLE_CONFIG=$ROOT/ansible.cfg
}

# pip and uv read different variables for the same setting. One that is set counts for both. (pip reads SSL_CERT_FILE
# since 24.2.)
share_index_settings() {
  [ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"
  [ -z "${UV_DEFAULT_INDEX:-}" ] || export PIP_INDEX_URL="${PIP_INDEX_URL:-$UV_DEFAULT_INDEX}"
  [ -z "${SSL_CERT_FILE:-}" ] || export PIP_CERT="${PIP_CERT:-$SSL_CERT_FILE}"
  [ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}"
}

# The tools of bin/release, bin/docs and bin/test, beside the controller's environment, so that bin/setup does not wait
# for them.
ensure_tools() {
  local tools=$ROOT/.cache/tools lock=$ROOT/requirements/tools.txt
  ensure_venv
  if ! cmp -s "$lock" "$tools/lock.txt" || ! "$tools/bin/python" -I -c '' 2>/dev/null; then
    step "Make .cache/tools from requirements/tools.txt" \
      "check that this machine reaches PyPI; PIP_INDEX_URL names a mirror, SSL_CERT_FILE a private certificate authority" make_tools "$tools" "$lock"
  fi
  export PATH=$PATH:$tools/bin
}

make_tools() {
  share_index_settings
  mkdir -p "$(dirname "$1")"
  uv venv --clear --relocatable --python "$ROOT/.venv/bin/python" "$1"
  uv pip sync --python "$1/bin/python" --require-hashes "$2"
  cp "$2" "$1/lock.txt"
}

gpg_hint() {
  if command -v apt-get >/dev/null; then
    echo "sudo apt-get install gnupg"
  elif command -v brew >/dev/null; then
    echo "brew install gnupg"
  else
    echo "install gnupg"
  fi
}

# A run of site.yml makes the keys that backups are sealed for, on this machine.
ensure_gpg() { command -v gpg >/dev/null || apt_install "for the keys of backups" gnupg; }

docker_answers() { docker version >/dev/null 2>&1; }

start_dockerd() {
  if [ -d /run/systemd/system ]; then
    as_root systemctl start docker
  elif ! as_root pgrep -x dockerd >/dev/null; then
    # No service manager: dockerd outlives this script, and stops with the machine.
    as_root sh -c 'cd / && setsid nohup dockerd >>/var/log/dockerd.log 2>&1 </dev/null &'
  fi
  for _ in $(seq 120); do
    ! as_root docker version >/dev/null 2>&1 || return 0
    sleep 0.5
  done
  as_root tail -n 20 /var/log/dockerd.log 2>/dev/null || true
  return 1
}

# A Docker Engine that answers this user. The arguments are this script's own: it starts again where a group was joined.
ensure_docker() {
  docker_answers && return
  [ -z "${DOCKER_HOST:-}" ] || die "the Docker Engine at DOCKER_HOST=$DOCKER_HOST does not answer" \
    "start it, or unset DOCKER_HOST to use the one on this machine"
  # A client alone is no engine. Debian keeps dockerd where an ordinary user's PATH does not look.
  PATH=$PATH:/usr/sbin:/sbin command -v dockerd >/dev/null || apt_install "to run the test hosts" docker.io
  docker_answers && return
  need_root "Starting the Docker Engine"
  as_root docker version >/dev/null 2>&1 || step "Start the Docker Engine" \
    "read the log above, or journalctl -u docker; then start it yourself and run this again" start_dockerd
  docker_answers && return
  [ -z "${AIRFLOW_JOINED_DOCKER:-}" ] || die "the Docker Engine runs, but $(id -un) may not use it" "log in again, or run: newgrp docker"
  # Members of the group are as good as root, which a user with sudo is already.
  say "  Add $(id -un) to the group docker (your next login has it too)"
  as_root usermod -aG docker "$(id -un)"
  AIRFLOW_JOINED_DOCKER=1 exec sg docker -c "$(printf '%q ' "$SELF" "$@")"
}

# A browser for the tests that sign in as people do: the distribution's, or the one that CHROMIUM names.
ensure_chromium() {
  [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || apt_install "a browser for the tests of signing in; CHROMIUM=/path names another one" chromium
  export CHROMIUM=${CHROMIUM:-$(command -v chromium)}
}

# The Debian host image, built once. host-image says nothing where it is there.
ensure_host_image() { "$ROOT/bin/host-image" "$1"; }

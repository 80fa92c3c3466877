# What bin/sandbox, bin/test and bin/host-image share: messages, long steps, the controller's environment, Docker.
# Sourced, not run. The caller has set -euo pipefail and $ROOT.
# shellcheck shell=bash

LOG_DIR=$ROOT/artifacts/logs

say() { printf '%s\n' "$*"; }

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
  log=$LOG_DIR/$(tr -cs 'a-z0-9\n' - <<<"${label,,}").log
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

# Print the first Python that ansible-core of the lock runs on.
find_python() {
  local python
  for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || continue
    command -v "$python"
    return
  done
  return 1
}

make_venv() {
  local python=$1 lock
  # pip and uv read different variables for the same thing; whoever set one gets both.
  [ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}
  [ -z "${UV_DEFAULT_INDEX:-}" ] || export PIP_INDEX_URL=${PIP_INDEX_URL:-$UV_DEFAULT_INDEX}
  lock=$ROOT/requirements
  "$python" -m venv --clear "$VENV"
  "$VENV/bin/python" -m pip install --disable-pip-version-check --require-hashes -r "$lock/uv.txt"
  "$VENV/bin/uv" pip sync --python "$VENV/bin/python" --require-hashes "$lock/controller.txt"
  # Where PYTHONDONTWRITEBYTECODE is set, as in many images for CI, Ansible would compile itself at each start and in each worker.
  "$VENV/bin/python" -m compileall -q -j 0 -x /galaxy/ "$VENV"/lib/python3.*/site-packages/{ansible,cryptography,jinja2,packaging,yaml}
  printf '%s\n' "$VENV_STAMP" >"$VENV/.stamp"
}

# The controller's environment, exactly as requirements/*.txt say. Nothing happens where it is so already.
ensure_venv() {
  local python
  VENV=$ROOT/.venv
  VENV_STAMP=$(cat "$ROOT"/requirements/{uv,controller}.txt | sha256sum | cut -d' ' -f1)
  if [ ! -x "$VENV/bin/ansible-playbook" ] || [ "$(cat "$VENV/.stamp" 2>/dev/null)" != "$VENV_STAMP" ]; then
    python=$(find_python) || die "no Python 3.11, 3.12 or 3.13 here; Ansible needs one ($(python3 --version 2>&1 || true))" \
      "install one and name it: PYTHON=/path/to/python3.12 $0"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install "to make the controller's environment" python3-venv
    step "Make .venv from requirements/" \
      "check that this machine reaches PyPI; a mirror is named by PIP_INDEX_URL, a private authority by SSL_CERT_FILE" \
      make_venv "$python"
  fi
  export PATH=$VENV/bin:$PATH VIRTUAL_ENV=$VENV ANSIBLE_CONFIG=$ROOT/ansible.cfg
}

# A run of site.yml makes the keys that backups are sealed for, on this machine.
ensure_gpg() { command -v gpg >/dev/null || apt_install "for the keys of backups" gnupg; }

docker_answers() { docker version >/dev/null 2>&1; }

start_dockerd() {
  if [ -d /run/systemd/system ]; then
    as_root systemctl start docker
  elif ! as_root pgrep -x dockerd >/dev/null; then
    # No service manager: dockerd outlives this script, and stops with the machine.
    as_root sh -c 'setsid nohup dockerd >>/var/log/dockerd.log 2>&1 </dev/null &'
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
  AIRFLOW_JOINED_DOCKER=1 exec sg docker -c "$(printf '%q ' "$0" "$@")"
}

# A browser for the tests that sign in as people do: the distribution's, or the one that CHROMIUM names.
ensure_chromium() {
  [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || apt_install "a browser for the tests of signing in; CHROMIUM=/path names another one" chromium
  export CHROMIUM=${CHROMIUM:-$(command -v chromium)}
}

# The Debian host image, built once. host-image says nothing where it is there.
ensure_host_image() { "$ROOT/bin/host-image" "$1"; }

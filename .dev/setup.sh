#!/usr/bin/env bash
# Makes the virtual environment that the Makefile uses, from hash-locked requirements. Usage: setup.sh run|dev [VENV] [PYTHON]
# As root on Debian or Ubuntu it also installs the packages that the tests start as servers; elsewhere it says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-dev}; venv=${2:-.venv}; python=${3:-}
packages_run="python3-venv"; packages_dev="python3-venv mosquitto"

debian() { [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ] && command -v apt-get >/dev/null; }

find_python() {
  for candidate in "$python" python3.11 python3 python3.12 python3.13 python3.14; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
    "$candidate" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null || continue
    command -v "$candidate"; return
  done
  echo "shoal: no Python 3.11 or newer found; on Debian and Ubuntu: apt-get install python3 python3-venv" >&2; return 1
}

install_packages() {
  local wanted=$packages_dev missing=""
  [ "$what" = run ] && wanted=$packages_run
  for package in $wanted; do dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"; done
  [ -z "$missing" ] && return 0
  if debian; then
    echo "shoal: installing$missing"
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing; } >/tmp/shoal-apt.$$ 2>&1 \
      || { cat /tmp/shoal-apt.$$ >&2; rm -f /tmp/shoal-apt.$$; return 1; }
    rm -f /tmp/shoal-apt.$$
    # A package's own service must not hold the ports or confuse the tests, which start their own servers.
    [ -d /run/systemd/system ] && systemctl disable --now mosquitto >/dev/null 2>&1 || true
  else
    case "$missing" in *mosquitto*) echo "shoal: mosquitto is missing and this is not root on Debian or Ubuntu: the tests against it will be skipped" >&2 ;; esac
  fi
}

if command -v dpkg >/dev/null; then install_packages
else command -v mosquitto >/dev/null || [ "$what" = run ] || echo "shoal: mosquitto is missing: the tests against it will be skipped" >&2; fi

lock=requirements/$what.txt
stamp="$venv/.shoal-$(cat "$lock" pyproject.toml | sha256sum | cut -c1-16)-$what"
[ -f "$stamp" ] && exit 0
found=$(find_python)
echo "shoal: setting up $venv with $found (a minute or two the first time)"
[ -x "$venv/bin/python" ] || "$found" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --editable .
rm -f "$venv"/.shoal-*-"$what"
touch "$stamp"

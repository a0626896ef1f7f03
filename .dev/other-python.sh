#!/usr/bin/env bash
# Runs the fast tests under Python 3.13 too, where one really runs (a pyenv shim without a version behind it does not).
set -euo pipefail
cd "$(dirname "$0")/.."
for candidate in "$HOME"/.pyenv/versions/3.13*/bin/python3.13 /usr/bin/python3.13 /usr/local/bin/python3.13; do
  [ -x "$candidate" ] && "$candidate" -c '' 2>/dev/null || continue
  .dev/setup.sh dev .venv-3.13 "$candidate"
  echo "shoal: the fast tests under $("$candidate" --version)"
  exec .venv-3.13/bin/pytest -q -m "not system and not slow" -n 2
done
echo "shoal: no Python 3.13 here; the fast tests ran under one version only"

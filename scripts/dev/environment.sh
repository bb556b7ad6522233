# Makes .venv with everything that development needs, once per change of pyproject.toml or constraints.txt; sourced.
for PYTHON in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
  [ -n "$PYTHON" ] && "$PYTHON" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && break
  PYTHON=
done
[ -n "$PYTHON" ] || { echo "passerby needs Python 3.11, 3.12 or 3.13; set PYTHON=/path/to/one" >&2; exit 1; }
stamp=".venv/passerby-$(cat pyproject.toml constraints.txt scripts/dev/environment.sh | cksum | cut -d' ' -f1)"
if [ ! -e "$stamp" ]; then
  echo "Installing into .venv (a few minutes, once) ..."
  [ -e .venv/bin/python ] || "$PYTHON" -m venv .venv
  .venv/bin/python -m pip install --quiet --upgrade --disable-pip-version-check "pip>=25.1"
  .venv/bin/python -m pip install --quiet --constraint constraints.txt --group dev --editable ".[train,index,simulate,serve,oidc,cluster]"
  .venv/bin/python -m pip install --quiet --constraint constraints.txt --no-deps --group peers
  touch "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"

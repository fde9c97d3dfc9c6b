#!/bin/sh
# Installs MuleSoft's DataWeave engine of a pinned version into .tools, unless it is there, and prints the folder: what
# PYTHONPATH needs to `import dataweave`. Busbar's tests run the scripts of ops/mulesoft with it.
set -eu
VERSION=2.12.2
root=$(cd "$(dirname "$0")/.." && pwd)
folder="$root/.tools/dataweave-$VERSION"
if [ ! -d "$folder" ]; then
  mkdir -p "$root/.tools"
  part=$(mktemp -d "$root/.tools/dataweave-XXXXXX")
  trap 'rm -rf "$part"' EXIT
  "${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
    --only-binary :all: --target "$part" "dataweave-native==$VERSION" >&2
  # Of two that install at once, the second finds the first's.
  mv -T "$part" "$folder" 2>/dev/null || test -d "$folder"
fi
echo "$folder"

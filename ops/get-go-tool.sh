#!/bin/sh
# Installs a Go program of a pinned version into .tools/bin, unless it is there, and prints where it is:
#   ops/get-go-tool.sh NAME PACKAGE@VERSION
# Nothing else of it stays: its modules are fetched into a folder that is removed at the end.
set -eu
if [ $# -ne 2 ]; then
  echo "usage: ops/get-go-tool.sh NAME PACKAGE@VERSION" >&2
  exit 2
fi
name=$1 package=$2
root=$(cd "$(dirname "$0")/.." && pwd)
program="$root/.tools/bin/$name-${package##*@}"
if [ ! -x "$program" ]; then
  command -v go >/dev/null 2>&1 || "$root/ops/need.sh" go
  mkdir -p "$root/.tools/bin"
  work=$(mktemp -d "$root/.tools/go-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  GOBIN="$work/bin" GOMODCACHE="$work/modules" GOFLAGS=-modcacherw CGO_ENABLED=0 go install "$package" >&2
  # Go names a program after the last part of its package, which may be as telling as `cmd`.
  set -- "$work"/bin/*
  mv "$1" "$program"
fi
echo "$program"

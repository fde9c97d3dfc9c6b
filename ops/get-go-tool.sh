#!/bin/sh
# Installs a Go program into .tools/bin, unless it is there, and prints where it is:
#   ops/get-go-tool.sh NAME PACKAGE@VERSION   one of somebody else, of a pinned version
#   ops/get-go-tool.sh NAME FOLDER            one of ours, whose go.mod and go.sum pin what it needs
# Nothing else of it stays: modules are fetched into a folder that is removed at the end.
set -eu
if [ $# -ne 2 ]; then
  echo "usage: ops/get-go-tool.sh NAME PACKAGE@VERSION|FOLDER" >&2
  exit 2
fi
name=$1 source=$2
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
case $source in
  *@*) program="$root/.tools/bin/$name-${source##*@}" newer="" ;;
  *) program="$root/.tools/bin/$name" newer=$(find "$source" -type f -newer "$root/.tools/bin/$name" 2>/dev/null || true) ;;
esac
if [ ! -x "$program" ] || [ -n "$newer" ]; then
  command -v go >/dev/null 2>&1 || ops/need.sh go
  mkdir -p .tools/bin
  work=$(mktemp -d "$root/.tools/go-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  export GOBIN="$work/bin" GOMODCACHE="$work/modules" GOFLAGS=-modcacherw CGO_ENABLED=0
  case $source in
    *@*) go install "$source" >&2 ;;
    *) (cd "$source" && go build -o "$work/bin/$name" .) >&2 ;;
  esac
  # Go names a program after the last part of its package, which may be as telling as `cmd`.
  set -- "$work"/bin/*
  mv "$1" "$program"
fi
echo "$program"

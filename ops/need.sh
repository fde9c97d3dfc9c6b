#!/bin/sh
# Makes sure of programs that stand beside Busbar: `ops/need.sh rabbitmq-server haproxy`.
# Where one is missing, root on Debian or Ubuntu gets its package, without a service being started; everybody else gets
# one sentence, and status 1.
set -eu

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
POLICY=/usr/sbin/policy-rc.d

package_of() {
  case "$1" in
    rabbitmq-server | rabbitmqctl) echo rabbitmq-server ;;
    prometheus | promtool) echo prometheus ;;
    haproxy) echo haproxy ;;
    java) echo openjdk-17-jre-headless ;;
    javac) echo openjdk-17-jdk-headless ;;
    mvn | maven) echo maven ;;
    go) echo golang-go ;;
    wrk) echo wrk ;;
    deck) echo deck ;;
    *) return 1 ;;
  esac
}

program_of() {
  case "$1" in
    maven) echo mvn ;;
    *) echo "$1" ;;
  esac
}

fail() {
  echo "$1" >&2
  exit 1
}

# A package's script asks this file whether it may start its service; 101 means no. One that was there comes back.
forbid_services() {
  if [ -e "$POLICY" ] && [ ! -e "$POLICY.before-busbar" ]; then mv "$POLICY" "$POLICY.before-busbar"; fi
  printf '#!/bin/sh\nexit 101\n' >"$POLICY"
  chmod 755 "$POLICY"
}

restore() {
  rm -f "$POLICY"
  if [ -e "$POLICY.before-busbar" ]; then mv "$POLICY.before-busbar" "$POLICY"; fi
  if [ -n "${log:-}" ]; then rm -f "$log"; fi
}

install() {
  log=$(mktemp)
  exec 9>/var/lock/busbar-need
  if command -v flock >/dev/null 2>&1; then flock 9; fi
  trap restore EXIT
  trap 'exit 130' INT TERM HUP
  forbid_services
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086 # package names have no spaces
  { apt-get -o DPkg::Lock::Timeout=300 update && apt-get -o DPkg::Lock::Timeout=300 install --quiet --yes \
    --no-install-recommends $1; } >"$log" 2>&1 </dev/null 9>&- || {
    tail -n 15 "$log" >&2
    fail "apt-get could not install$1; what it said last is above."
  }
}

[ $# -gt 0 ] || fail "Usage: ops/need.sh NAME..., for example: ops/need.sh rabbitmq-server"

missing="" packages=""
for name in "$@"; do
  package=$(package_of "$name") || fail "ops/need.sh does not know $name; it has a list of what Busbar's tests use."
  if ! command -v "$(program_of "$name")" >/dev/null 2>&1; then
    missing="$missing $name"
    packages="$packages $package"
  fi
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  fail "Missing:$missing. Install it (Debian and Ubuntu, as root: apt-get install$packages), or run ops/need.sh as root there."
fi
echo "Installing$packages" >&2
install "$packages"
for name in $missing; do
  command -v "$(program_of "$name")" >/dev/null 2>&1 || fail "apt-get installed$packages, but $name is still not on the PATH."
done

#!/bin/sh
# Runs Camel beside Busbar: `ops/camel/run.sh build` builds it with Maven, `ops/camel/run.sh` starts it.
# A variable such as ITSM_PASSWORD may be given as ITSM_PASSWORD_FILE, the name of a file that holds it.
set -eu

cd "$(dirname "$0")"

if [ "${1:-}" = build ]; then
  # In the image there is what it takes; elsewhere it is installed where it is missing.
  if [ -x ../need.sh ]; then ../need.sh javac maven; fi
  exec mvn --quiet --batch-mode package
fi

if [ ! -d target/lib ]; then
  echo "Camel is not built: run ops/camel/run.sh build." >&2
  exit 1
fi

for name in AMQP_URL ITSM_PASSWORD ITSM_CLIENT_SECRET ERP_PASSWORD CRM_CLIENT_SECRET API_PASSWORD MQTT_PASSWORD; do
  eval "file=\${${name}_FILE:-}"
  if [ -n "$file" ]; then
    value=$(cat "$file")
    eval "$name=\$value; export $name"
  fi
done

# shellcheck disable=SC2086 # options are separated by spaces
exec java ${JAVA_OPTS:--Xmx256m} -cp "target/busbar-camel-0.1.0.jar:target/lib/*" org.apache.camel.main.Main

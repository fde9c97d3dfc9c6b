#!/bin/sh
# Writes the secrets that compose.yml mounts, random ones, into the folder `secrets` (or the one that is named); what is
# there stays as it is. Nobody but the owner gets into the folder. The files in it are readable, because in a container
# each is read by the user of that container, and docker compose hands them over with the mode that they have here.
set -eu
folder=${1:-$(cd "$(dirname "$0")/.." && pwd)/secrets}
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

# 24 random bytes in the letters and digits that an address may hold as they are.
random() {
  head -c 24 /dev/urandom | base64 | tr '+/' 'ab'
}

# Standard input becomes the secret `$1`: whole or not at all, and never over one that is there.
keep() {
  if [ -e "$folder/$1" ]; then
    cat >/dev/null
    return
  fi
  cat >"$folder/.$1.new"
  chmod 444 "$folder/.$1.new"
  mv "$folder/.$1.new" "$folder/$1"
  echo "made $folder/$1"
}

for name in postgres_password busbar_database_password busbar_broker_password camel_broker_password \
  busbar_admin_password grafana_admin_password simulator_password alarm_api_password mqtt_password; do
  random | keep "$name"
done
head -c 32 /dev/urandom | base64 | keep busbar_secret_key
echo "postgresql://busbar:$(cat "$folder/busbar_database_password")@postgres:5432/busbar" | keep database_url
echo "amqp://busbar:$(cat "$folder/busbar_broker_password")@rabbitmq:5672/busbar" | keep amqp_url
echo "amqp://camel:$(cat "$folder/camel_broker_password")@rabbitmq:5672/busbar" | keep camel_amqp_url
# Camel's credentials at the remote systems: those of the simulators, until somebody puts the real ones there.
for name in itsm_password erp_password crm_client_secret; do
  keep "$name" <"$folder/simulator_password"
done

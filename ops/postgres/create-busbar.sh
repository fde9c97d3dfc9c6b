#!/bin/sh
# Makes Busbar's role and the database that it owns; PostgreSQL's image runs this once, on an empty data folder.
# The role owns nothing else and is no superuser. Its password is in the file that BUSBAR_ROLE_PASSWORD_FILE names.
set -eu
test -s "$BUSBAR_ROLE_PASSWORD_FILE" || { echo "$BUSBAR_ROLE_PASSWORD_FILE is missing or empty." >&2; exit 1; }
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\set password `cat "$BUSBAR_ROLE_PASSWORD_FILE"`
create role busbar login password :'password' nosuperuser nocreatedb nocreaterole noreplication nobypassrls;
create database busbar owner busbar encoding 'UTF8' template template0;
revoke all on database busbar from public;
SQL

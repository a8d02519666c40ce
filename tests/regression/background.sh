#!/bin/bash
# One of the clients beside PostgreSQL's regression schedule, when that is run scattered over server connections
# (docs/pgregress-differences.md): it sets, prepares and creates under the names that the tests use, until it is killed.
#
# usage: background.sh NUMBER DIRECT_PORT POOLER_PORT     as user postgres, on 127.0.0.1
set -u
number=$1 direct=$2 pooler=$3
export PGHOST=127.0.0.1 PGUSER=postgres
psql -p "$direct" -d postgres -qc "CREATE ROLE background_$number" 2>/dev/null

# The database is as the tests want it once its settings are there: connections opened before would not have them.
ready="SELECT cardinality(setconfig) >= 7 FROM pg_db_role_setting JOIN pg_database AS d ON d.oid = setdatabase
    WHERE datname = 'regression'"
until [ "$(psql -p "$direct" -d postgres -Atc "$ready" 2>/dev/null)" = t ]; do sleep 0.3; done

rounds() {
    for _ in $(seq 20); do
        cat <<SQL
SET search_path = background_$number, public;
SET DateStyle = 'German, DMY';
SET TimeZone = 'Asia/Tokyo';
SET IntervalStyle = 'iso_8601';
SET extra_float_digits = -5;
SET standard_conforming_strings = off;
SET enable_seqscan = off;
SET application_name = 'background $number';
SET ROLE background_$number;
SELECT current_user, current_date, now();
PREPARE q1 AS SELECT 'background';
PREPARE q2(text) AS SELECT \$1;
EXECUTE q1;
DEALLOCATE q1;
DEALLOCATE q2;
RESET ROLE;
CREATE TEMP TABLE temptest (background int);
INSERT INTO temptest VALUES ($number);
SELECT * FROM temptest;
DROP TABLE temptest;
BEGIN; SET LOCAL work_mem = '1MB'; DECLARE c CURSOR FOR SELECT 1; SELECT pg_sleep(0.002); COMMIT;
LISTEN background; UNLISTEN background;
RESET ALL;
SQL
    done
}

while true; do
    rounds | psql -p "$pooler" -qXAt -d regression >/dev/null 2>&1 || sleep 0.2
done

#!/bin/sh
# PostgreSQL's JDBC driver, as Debian has it.
set -eu

name=java
. "$(dirname "$0")/../serve.sh"
command -v java >/dev/null || missing "java (package openjdk-17-jdk-headless or newer)"
driver=/usr/share/java/postgresql.jar
if [ ! -f "$driver" ]; then
    root=$("$repository/scripts/debian.sh" libpostgresql-jdbc-java) || missing "libpostgresql-jdbc-java"
    driver=$root$driver
fi
java --source 17 -version >/dev/null 2>&1 || missing "a JDK of version 17 or newer"
serve
java -cp "$driver" "$(dirname "$0")/Claims.java"

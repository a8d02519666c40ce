#!/bin/sh
# Hibernate with PostgreSQL's JDBC driver, as Debian has them.
set -eu

name=orm-java
. "$(dirname "$0")/../serve.sh"
command -v javac >/dev/null || missing "javac (package openjdk-17-jdk-headless or newer)"
java --source 17 -version >/dev/null 2>&1 || missing "a JDK of version 17 or newer"
root=$("$repository/scripts/debian.sh" libhibernate3-java libjavassist-java libslf4j-java libpostgresql-jdbc-java) ||
    missing "libhibernate3-java"
classes=
for jar in hibernate3 hibernate-commons-annotations hibernate-entitymanager antlr commons-collections3 dom4j \
    geronimo-jpa_2.0_spec geronimo-jta-1.2-spec javassist slf4j-api slf4j-nop postgresql; do
    file=$root/usr/share/java/$jar.jar
    [ -f "$file" ] || file=/usr/share/java/$jar.jar
    classes=$classes:$file
done
serve
# Hibernate of that age makes classes in a way that Java has closed since.
javac -proc:none -cp "${classes#:}" -d "$work/classes" "$(dirname "$0")/Claims.java"
java --add-opens java.base/java.lang=ALL-UNNAMED -cp "$work/classes$classes" Claims

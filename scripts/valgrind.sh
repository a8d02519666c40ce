#!/bin/sh
# Prints the folder to put in front of PATH so that `valgrind` is found there: its own if one is installed, else one with
# Debian's package unpacked into the cache folder by scripts/debian.sh.
#
# exit: 0, 3 (none can be had here; the last line says why)
set -eu

if found=$(command -v valgrind); then
    dirname "$found"
    exit
fi
root=$("$(dirname "$0")/debian.sh" valgrind)
for tools in "$root"/usr/libexec/valgrind "$root"/usr/lib/*/valgrind; do
    if [ -x "$root/usr/bin/valgrind.bin" ] && [ -d "$tools" ]; then
        # The package's own wrapper has fixed paths.
        mkdir -p "$root/headpond"
        cat >"$root/headpond/.valgrind.$$" <<WRAPPER
#!/bin/sh
VALGRIND_LIB='$tools' exec '$root/usr/bin/valgrind.bin' "\$@"
WRAPPER
        chmod 755 "$root/headpond/.valgrind.$$"
        mv "$root/headpond/.valgrind.$$" "$root/headpond/valgrind"
        echo "$root/headpond"
        exit
    fi
done
echo "$0: $root holds no valgrind: remove that folder, or install the package valgrind" >&2
exit 3

#!/bin/sh
# ActiveRecord of Rails with pg, as Debian has them.
set -eu

name=orm-ruby
. "$(dirname "$0")/../serve.sh"
root=$("$repository/scripts/debian.sh" ruby ruby-activerecord ruby-pg ruby-minitest) || missing "ruby-activerecord"
version=$(cd "$root/usr/lib/ruby" && echo [0-9]*)
libraries=$(echo "$root"/usr/lib/*-linux-gnu*)
serve
# Wherever Debian's Ruby would look below /usr, it is to look below $root.
folders=
for folder in "$root/usr/lib/ruby/vendor_ruby" "$libraries/ruby/vendor_ruby/$version" "$root/usr/lib/ruby/$version" \
    "$libraries/ruby/$version"; do
    folders=$folders:$folder
done
integration=$root/usr/share/rubygems-integration
LD_LIBRARY_PATH=$libraries RUBYLIB=${folders#:} GEM_HOME=$work/gems \
    GEM_PATH=$integration/all:$integration/$version:$libraries/rubygems-integration/$version \
    "$root/usr/bin/ruby" "$(dirname "$0")/claims.rb"

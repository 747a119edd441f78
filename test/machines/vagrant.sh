#!/bin/sh
# What README's "Four VMs" says, line by line, on software emulation: four machines, the acceptance suite on them by
# ssh and their end, with throughput between two before it (figures that mean nothing), and nothing left. As root, after
# npm install:
#   sh vagrant.sh [BOX]     BOX is one that box.sh has made; without it, it is made first and removed at the end
# What the single steps need stands in libvirt.sh, box.sh and ../../vagrant/cache.sh. Takes twenty minutes on two
# processors that do nothing else, and 6 GiB of memory.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export VAGRANT_DEFAULT_PROVIDER=libvirt PODWIRE_BOX="${PODWIRE_BOX:-podwire/debian12}" PODWIRE_MEMORY="${PODWIRE_MEMORY:-1280}" PODWIRE_CPUS="${PODWIRE_CPUS:-1}"
work=$(mktemp -d "${TMPDIR:-/var/tmp}/podwire-vagrant.XXXXXX")
up=
finish() {
  if [ -n "$up" ]; then sh "$here/libvirt.sh" down; fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
libvirt() { sh "$here/libvirt.sh" exec "$@"; }
# README's line with these words, as it stands there.
line() {
  awk -v words="$1" '/^## / { here = $0 == "## Four VMs" } here && index($0, words) { print; found = 1 }
    END { if (!found) { print "README has no line: " words > "/dev/stderr"; exit 1 } }' README.md
}
up_line=$(line "vagrant up")
suite=$(line "run acceptance")
destroy=$(line "vagrant destroy")

box=${1:-}
if [ -z "$box" ]; then
  sh vagrant/cache.sh
  box=$work/debian12.box
  PREPARED=yes sh "$here/box.sh" "$box"
fi

[ ! -e /run/netns/pwl ] || { echo "a libvirt of ours is up already: sh $here/libvirt.sh down" >&2; exit 1; }
up=yes
sh "$here/libvirt.sh" up
libvirt vagrant box add --no-tty --name "$PODWIRE_BOX" "$box"
failed=
libvirt sh -c "$up_line" || failed="$failed up"
if [ -z "$failed" ]; then
  libvirt sh -c "$suite" || failed="$failed acceptance"
  libvirt npm run bench -- net --target vagrant --quick || failed="$failed bench"
fi
libvirt sh -c "$destroy" || failed="$failed destroy"
sh "$here/libvirt.sh" left || failed="$failed left"
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }

#!/bin/sh
# vagrant/Vagrantfile from up to destroy, on software emulation: four machines, the acceptance suite on them by ssh,
# throughput between two (figures that mean nothing), and nothing left. As root, from anywhere:
#   sh vagrant.sh [BOX]     BOX is one that box.sh has made; without it, it is made first and removed at the end
# What the single steps need stands in libvirt.sh, box.sh and ../../vagrant/cache.sh. Takes half an hour and more on
# two processors that do nothing else, and 6 GiB of memory.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export PODWIRE_BOX="${PODWIRE_BOX:-podwire/debian12}" PODWIRE_MEMORY="${PODWIRE_MEMORY:-1280}" PODWIRE_CPUS="${PODWIRE_CPUS:-1}"
work=$(mktemp -d "${TMPDIR:-/var/tmp}/podwire-vagrant.XXXXXX")
up=
finish() {
  if [ -n "$up" ]; then sh "$here/libvirt.sh" down; fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
libvirt() { sh "$here/libvirt.sh" exec "$@"; }

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
libvirt sh -c 'cd vagrant && vagrant up --no-tty --provider=libvirt' || failed="$failed up"
if [ -z "$failed" ]; then
  libvirt npm run acceptance -- --target vagrant || failed="$failed acceptance"
  libvirt npm run bench -- net --target vagrant --quick || failed="$failed bench"
fi
libvirt sh -c 'cd vagrant && vagrant destroy --no-tty -f' || failed="$failed destroy"
sh "$here/libvirt.sh" left || failed="$failed left"
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }

#!/bin/sh
# The package that npm pack makes, installed in an empty directory of a machine that has never seen podwire, a
# compiler or npm's cache, brings up the lab and walks it to the end; it can be installed globally too. As root:
#   sh package.sh [PACKAGE]     without one, it packs the working copy
# The machine is one of machines.sh. Node.js and kubectl come as vagrant/provision/machine.sh gets them, the
# lab's programs as the lab does, podwire's dependencies from npm's registry.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
state=${PODWIRE_MACHINES:-/var/tmp/podwire-machines}
work=$(mktemp -d)
up=
finish() {
  if [ -n "$up" ]; then sh "$here/machines.sh" down; fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

package=${1:-}
if [ -z "$package" ]; then
  (cd "$source" && npm pack --loglevel=error --pack-destination "$work" > /dev/null)
  package=$(echo "$work"/podwire-*.tgz)
fi

[ ! -e /run/netns/pwm-lan ] || { echo "machines are up already: sh $here/machines.sh down" >&2; exit 1; }
up=yes
sh "$here/machines.sh" up one:192.168.2.20
on_machine() { sh "$here/machines.sh" exec ssh -F "$state/ssh_config" one "$@"; }

tar -C "$source" -cf - scripts vagrant | on_machine "mkdir -p /var/tmp/setup && tar -C /var/tmp/setup --no-same-owner -xf -"
proxies="http_proxy=${http_proxy:-} https_proxy=${https_proxy:-} no_proxy=${no_proxy:-}"
on_machine "env $proxies sh /var/tmp/setup/vagrant/provision/machine.sh lab && rm -rf /var/tmp/setup" < /dev/null
on_machine "cat > /var/tmp/podwire.tgz" < "$package"

on_machine "env $proxies sh -eu" << 'END'
for program in cc c++ gcc g++ clang make python3; do
  if command -v $program; then echo "a compiler's part is here: the machine proves nothing" >&2; exit 1; fi
done
for cache in ~/.npm ~/.cache; do
  if [ -e $cache ]; then echo "$cache is here: the machine proves nothing" >&2; exit 1; fi
done
namespaces() { ls /run/netns 2> /dev/null || :; }
mkdir /root/empty
cd /root/empty
npm install --no-audit --no-fund --loglevel=error /var/tmp/podwire.tgz
npx --no-install podwire lab run --once < /dev/null
if npx --no-install podwire lab status < /dev/null; then echo "the lab is still up" >&2; exit 1; fi
if [ -n "$(namespaces)" ]; then echo "namespaces are left: $(namespaces)" >&2; exit 1; fi
END
echo "the package brings up the lab"

# README's line, where the package lies.
install=$(sed -n 's/^\(npm install -g podwire-[^ ]*\) .*/\1/p' "$source/README.md")
[ -n "$install" ] || { echo "README has no line: npm install -g" >&2; exit 1; }
on_machine "env $proxies sh -eu" << END
mkdir /root/global
cp /var/tmp/podwire.tgz /root/global/podwire-0.tgz
cd /root/global
$install
podwire --help
npm uninstall -g podwire
# The shell remembers where it was.
hash -r
if command -v podwire; then echo "podwire is still there" >&2; exit 1; fi
END
echo "the package installs globally"

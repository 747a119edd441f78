#!/bin/sh
# First step on every machine, as root: Node.js 20 or newer, and the programs that a node needs.
#   sh machine.sh node|master|pc|lab
# lab: Node.js and kubectl alone; podwire's lab installs its own programs.
# Where a machine reaches no download site, files in the folder vagrant/cache of the working copy serve instead:
#   node-v*-linux-x64.tar.gz (or .tar.xz)   a tarball of nodejs.org
#   kubectl                                 the program
# http_proxy and https_proxy are passed on to apt, npm and curl. May be repeated.
set -eu
role=${1:?node, master, pc or lab}
here=$(cd "$(dirname "$0")" && pwd)
cache=$(dirname "$here")/cache
setup=$(dirname "$(dirname "$here")")/scripts/setup.sh
NODE_MAJOR=${NODE_MAJOR:-22}
export DEBIAN_FRONTEND=noninteractive

[ "$(id -u)" -eq 0 ] || { echo "machine.sh: run it as root" >&2; exit 1; }

apt() { apt-get -o DPkg::Lock::Timeout=300 -qq "$@"; }

install_packages() {
  apt update
  apt install -y --no-install-recommends "$@" > /dev/null
}

if [ "$role" = pc ]; then
  install_packages curl redis-tools iputils-ping
  if [ -d /run/systemd/system ]; then systemctl disable -q --now redis-server 2> /dev/null || :; fi
  exit 0
fi

has_node() { command -v node > /dev/null && [ "$(node -p 'parseInt(process.versions.node)')" -ge 20 ]; }

# The newest that apt has, as a major number; 0 for none.
apt_node() { LC_ALL=C apt-cache policy nodejs 2> /dev/null | sed -n 's/^ *Candidate: *\([0-9]*\)\..*/\1/p' | grep . || echo 0; }

from_tarball() {
  for file in "$cache"/node-v*-linux-"$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')".tar.*; do
    [ -e "$file" ] || return 1
    echo "Node.js from $file"
    case $file in *.xz) install_packages xz-utils ;; esac
    tar -C /usr/local --strip-components=1 --no-same-owner -xf "$file" && return 0
  done
  return 1
}

from_apt() {
  apt update
  [ "$(apt_node)" -ge 20 ] || return 1
  echo "Node.js $(apt_node) of this distribution"
  apt install -y --no-install-recommends nodejs npm > /dev/null
}

from_nodesource() {
  install_packages ca-certificates curl
  echo "Node.js $NODE_MAJOR from deb.nodesource.com"
  # apt reads an armored key as it is, by its name.
  curl -fsSL --max-time 60 -o /usr/share/keyrings/nodesource.asc \
    https://deb.nodesource.com/gpgkey/nodesource-repo.gpg.key || return 1
  echo "deb [signed-by=/usr/share/keyrings/nodesource.asc] https://deb.nodesource.com/node_$NODE_MAJOR.x nodistro main" \
    > /etc/apt/sources.list.d/nodesource.list
  install_packages nodejs
}

has_node || from_tarball || from_apt || from_nodesource || :
has_node || {
  echo "There is no Node.js 20 or newer to be had: this distribution has $(apt_node), deb.nodesource.com was not" >&2
  echo "reached. Put a tarball of https://nodejs.org/en/download into vagrant/cache." >&2
  exit 1
}

case $role in master | lab) needs_kubectl=yes ;; *) needs_kubectl= ;; esac
if [ -n "$needs_kubectl" ] && [ -e "$cache/kubectl" ] && ! command -v kubectl > /dev/null; then
  install -m 755 "$cache/kubectl" /usr/local/bin/kubectl
fi
if [ "$role" = lab ]; then sh "$setup" kubectl; else sh "$setup" "$role"; fi
if [ -n "$needs_kubectl" ] && ! command -v kubectl > /dev/null; then
  echo "There is no kubectl: put one into vagrant/cache." >&2
  exit 1
fi
echo "$(hostname): Node.js $(node --version), programs of a $role"

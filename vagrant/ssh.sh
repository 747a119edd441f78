#!/bin/sh
# Provisions four machines that are there already as `vagrant up` does its own, over ssh:
#   sh vagrant/ssh.sh [-F SSH-CONFIG] [-p PACKAGE]
# The ssh config (default: ssh's own) has to know k8s-master and k8s-worker01 to 03, and pc if there is one, as
# users that are root or may sudo without a password. Their addresses on the LAN are the walkthrough's, or those of
# ADDRESSES="192.168.2.30 192.168.2.31 …". -p takes a package that npm pack has made; without it the master
# builds one. PODWIRE_PROFILE and PODWIRE_K3S_VERSION are the Vagrantfile's. May be repeated.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
NODES="k8s-master k8s-worker01 k8s-worker02 k8s-worker03"
ADDRESSES=${ADDRESSES:-"192.168.2.30 192.168.2.31 192.168.2.32 192.168.2.33"}
config= package=
while getopts F:p: option; do
  case $option in
    F) config=$OPTARG ;;
    p) package=$OPTARG ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

remote() {
  host=$1
  shift
  # shellcheck disable=SC2029 # the command is meant to be put together here
  ssh ${config:+-F "$config"} "$host" "if [ \$(id -u) -eq 0 ]; then $*; else sudo -n sh -c '$*'; fi"
}
address_of() {
  position=1
  for node in $NODES; do
    [ "$node" != "$1" ] || { echo "$ADDRESSES" | cut -d' ' -f"$position"; return; }
    position=$((position + 1))
  done
}
there=/var/tmp/podwire-setup
proxies="http_proxy=${http_proxy:-} https_proxy=${https_proxy:-} no_proxy=${no_proxy:-} PODWIRE_PROFILE=${PODWIRE_PROFILE:-podwire} PODWIRE_K3S_VERSION=${PODWIRE_K3S_VERSION:-}"

# Sources, scripts and cache; the working copy's own products stay here.
tar -C "$here/.." --exclude=./node_modules --exclude=./build --exclude='./dist*' --exclude=./.git \
  --exclude='*/.vagrant' --exclude=./podwire-*.tgz -cf "$work/source.tar" .
for node in $NODES; do
  remote "$node" "rm -rf $there && mkdir -p $there && tar -C $there --no-same-owner -xf -" < "$work/source.tar"
done

machine() { remote "$1" "env $proxies sh $there/vagrant/provision/machine.sh $2" < /dev/null; }
for node in $NODES; do
  if [ "$node" = k8s-master ]; then role=master; else role=node; fi
  machine "$node" "$role"
done

if [ -n "$config" ] && grep -qx 'Host pc' "$config"; then
  remote pc "rm -rf $there && mkdir -p $there && tar -C $there --no-same-owner -xf -" < "$work/source.tar"
  machine pc pc
fi

if [ -n "$package" ]; then
  cp "$package" "$work/podwire.tgz"
else
  remote k8s-master "env $proxies sh $there/vagrant/provision/build.sh $there/podwire.tgz" < /dev/null
  remote k8s-master "cat $there/podwire.tgz" < /dev/null > "$work/podwire.tgz"
fi
for node in $NODES; do
  remote "$node" "cat > $there/podwire.tgz" < "$work/podwire.tgz"
  if [ "$node" = k8s-master ]; then
    line=master joining=
  else
    line=node
    joining="https://$(address_of k8s-master):6443 $(remote k8s-master "${PODWIRE_PROFILE:-podwire}" token create --ttl 1h --description "$node" < /dev/null)"
  fi
  remote "$node" "env $proxies sh $there/vagrant/provision/node.sh $there/podwire.tgz $line $node $(address_of "$node") $joining" < /dev/null
done
remote k8s-master "env $proxies sh $there/vagrant/provision/ready.sh 4 \${SUDO_USER:-}" < /dev/null

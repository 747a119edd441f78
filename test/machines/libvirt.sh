#!/bin/sh
# A libvirt of one's own, for a run of vagrant/Vagrantfile that leaves the machine as it is: libvirtd, its qemu
# processes, networks and files are in namespaces (process, mount, network) and below one directory. As root:
#   sh libvirt.sh up          starts it
#   sh libvirt.sh exec CMD…   runs a command where it is, as: sh libvirt.sh exec sh -c 'cd vagrant && vagrant up'
#   sh libvirt.sh left        fails, and says what, if a domain, network, volume, qemu or dnsmasq is there
#   sh libvirt.sh down        ends it and everything that runs in it; the directory goes too
# Without KVM: PODWIRE_LIBVIRT_DRIVER=qemu is set for commands. Everything is in $PODWIRE_LIBVIRT
# (/var/tmp/podwire-libvirt) and in a network namespace called pwl, with a way out by slirp4netns. Needs
# libvirt-daemon-system, qemu-system-x86, dnsmasq-base, vagrant-libvirt, slirp4netns and iproute2. No systemd.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR
. "$here/processes.sh"
state=${PODWIRE_LIBVIRT:-/var/tmp/podwire-libvirt}
netns=pwl

started() { [ -e "$state/init.pid" ] && kill -0 "$(cat "$state/init.pid")" 2> /dev/null; }

# In the namespaces of the first process there.
enter() {
  started || { echo "libvirt is not up: sh $0 up" >&2; exit 1; }
  # A mount namespace is entered at its root.
  # shellcheck disable=SC2016 # for the shell there
  nsenter --target "$(cat "$state/init.pid")" --mount --net --pid -- env VAGRANT_HOME="$state/vagrant.d" \
    VAGRANT_CHECKPOINT_DISABLE=1 PODWIRE_LIBVIRT_DRIVER="${PODWIRE_LIBVIRT_DRIVER:-qemu}" sh -c 'cd "$0" && exec "$@"' "$PWD" "$@"
}

# The first process: it has namespaces of its own, and all end with it.
init() {
  for place in /run /var/log/libvirt /var/cache/libvirt; do mount -t tmpfs tmpfs "$place"; done
  mkdir -p "$state/etc" "$state/lib/images" /run/lock
  mount --bind "$state/lib" /var/lib/libvirt
  mount --bind "$state/etc" /etc/libvirt
  mount --bind "$state/resolv.conf" /etc/resolv.conf
  # qemu as root, in no cgroup and no namespace of libvirt's making: it has ours.
  cat > /etc/libvirt/qemu.conf << 'END'
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
END
  virtlogd --daemon
  libvirtd --daemon
  until virsh --connect qemu:///system version > /run/version 2>&1; do
    [ $((tries = ${tries:-0} + 1)) -lt 60 ] || { cat /run/version; exit 1; }
    sleep 0.5
  done
  echo ready > "$state/ready"
  # Not exec: the first process has to bury the orphans, or libvirt waits for a qemu that is dead.
  sleep infinity
}

up() {
  ! started || { echo "libvirt is up already" >&2; exit 1; }
  mkdir -p "$state"
  rm -f "$state/ready"
  echo "nameserver 10.0.2.3" > "$state/resolv.conf"
  ip netns add "$netns"
  ip -n "$netns" link set lo up
  setsid slirp4netns --configure --mtu=1500 --disable-host-loopback --netns-type=path --cidr=10.0.2.0/24 "/run/netns/$netns" \
    eth0 > "$state/slirp.log" 2>&1 < /dev/null &
  echo $! > "$state/slirp.pid"
  setsid ip netns exec "$netns" unshare --mount --pid --fork --kill-child --mount-proc sh "$0" init \
    > "$state/init.log" 2>&1 < /dev/null &
  outer=$!
  echo $outer > "$state/outer.pid"
  deadline=$(($(date +%s) + 120))
  until [ -e "$state/ready" ]; do
    if ! kill -0 $outer 2> /dev/null || [ "$(date +%s)" -ge "$deadline" ]; then
      cat "$state/init.log" >&2
      exit 1
    fi
    sleep 0.5
  done
  # unshare's only child.
  tr -d ' ' < "/proc/$outer/task/$outer/children" > "$state/init.pid"
  enter virsh --connect qemu:///system version
}

left() {
  # shellcheck disable=SC2016 # for the shell there
  found=$(enter sh -c '
    virsh -q -c qemu:///system list --all --name
    virsh -q -c qemu:///system net-list --all --name
    for pool in $(virsh -q -c qemu:///system pool-list --all --name); do
      virsh -q -c qemu:///system vol-list $pool | grep -v _vagrant_box_image_
    done
    ip -brief link show type bridge
    pgrep -a qemu-system
    pgrep -a dnsmasq
  ' | grep . || :)
  [ -z "$found" ] || { echo "left: $found" >&2; exit 1; }
  echo "nothing is left"
}

down() {
  # Killing the first process of a process namespace kills all in it.
  if [ -e "$state/init.pid" ]; then kill -KILL "$(cat "$state/init.pid")" 2> /dev/null || :; fi
  for process in outer slirp; do
    ask_to_end "$state/$process.pid"
    end "$state/$process.pid"
  done
  if [ -e "/run/netns/$netns" ]; then ip netns del "$netns"; fi
  rm -rf "$state"
}

case ${1:-} in
  up) up ;;
  exec) shift; enter "$@" ;;
  left) left ;;
  down) down ;;
  init) init ;;
  *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

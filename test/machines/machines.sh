#!/bin/sh
# Machines to provision where there are no virtual ones: Debian 12 roots made by debootstrap, each with its own init
# (systemd, by systemd-nspawn), network namespace and sshd. They look as Vagrant's do: eth0 is a NAT interface
# with the same address everywhere, eth1 the private network. As root:
#   sh machines.sh up [NAME:ADDRESS…] makes and starts k8s-master, k8s-worker01 to 03, and pc, or those named
#   sh machines.sh exec CMD…          runs a command where the machines are reached: on 192.168.2.1, with $SSH_CONFIG
#   sh machines.sh provision [ARGS…]  vagrant/ssh.sh on them
#   sh machines.sh down               ends them, and forgets everything but the base root
# Everything is in $PODWIRE_MACHINES (/var/tmp/podwire-machines) and in network namespaces called pwm-…; the
# machine itself stays as it is. Needs debootstrap, systemd-container, slirp4netns, iproute2 and openssh-client.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR
. "$here/processes.sh"
state=${PODWIRE_MACHINES:-/var/tmp/podwire-machines}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
MACHINES="k8s-master:192.168.2.30 k8s-worker01:192.168.2.31 k8s-worker02:192.168.2.32 k8s-worker03:192.168.2.33 pc:192.168.2.10"
# Which ones are up, for down.
if [ -e "$state/machines" ]; then MACHINES=$(cat "$state/machines"); fi
# What a box of a cloud has.
PACKAGES=systemd,systemd-sysv,dbus,openssh-server,sudo,iproute2,ca-certificates,curl,netbase,kmod,procps,iputils-ping
export SSH_CONFIG="$state/ssh_config"
# Where this machine has both versions, version 2 lies below.
cgroups=/sys/fs/cgroup
if [ -e $cgroups/unified/cgroup.procs ]; then cgroups=$cgroups/unified; fi

base() {
  [ -e "$state/base/.complete" ] && return
  rm -rf "$state/base"
  mkdir -p "$state"
  echo "debootstrap: Debian 12"
  debootstrap --variant=minbase --include="$PACKAGES" bookworm "$state/base" "$mirror" > "$state/debootstrap.log"
  # Its host keys would be everybody's.
  rm -f "$state"/base/etc/ssh/ssh_host_* "$state/base/etc/machine-id"
  # This machine's certificate authorities: registries may be reached by way of one of its own.
  cp /etc/ssl/certs/ca-certificates.crt "$state/base/etc/ssl/registries.crt"
  echo 'cafile=/etc/ssl/registries.crt' > "$state/base/root/.npmrc"
  touch "$state/base/.complete"
}

make_root() {
  name=$1
  mkdir -p "$state/$name/upper" "$state/$name/work" "$state/$name/root"
  mount -t overlay -o "lowerdir=$state/base,upperdir=$state/$name/upper,workdir=$state/$name/work" \
    podwire-machine "$state/$name/root"
  root=$state/$name/root
  echo "$name" > "$root/etc/hostname"
  printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" > "$root/etc/hosts"
  rm -f "$root/etc/resolv.conf"
  echo "nameserver 10.0.2.3" > "$root/etc/resolv.conf"
  install -d -m 700 "$root/root/.ssh"
  install -m 600 "$state/key.pub" "$root/root/.ssh/authorized_keys"
  ssh-keygen -A -f "$root" > /dev/null
  systemd-machine-id-setup --root="$root" > /dev/null 2>&1
}

start() {
  name=$1 address=$2
  ip netns add "pwm-$name"
  ip -n pwm-lan link add "$name" type veth peer name eth1 netns "pwm-$name"
  ip -n pwm-lan link set "$name" master br0 up
  ip -n "pwm-$name" link set lo up
  ip -n "pwm-$name" address add "$address/24" brd + dev eth1
  ip -n "pwm-$name" link set eth1 up
  setsid slirp4netns --configure --mtu=1500 --disable-host-loopback --netns-type=path "/run/netns/pwm-$name" eth0 \
    > "$state/$name/slirp.log" 2>&1 < /dev/null &
  echo $! > "$state/$name/slirp.pid"
  # Version 2 of cgroups, as Ubuntu 22.04 and Debian 12 have it, below one of its own; of /proc and /sys only what is
  # the network namespace's may be written.
  mkdir -p "$cgroups/pwm-$name"
  # shellcheck disable=SC2016 # for the shell there
  SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network setsid sh -c \
    'echo $$ > "$0/cgroup.procs" && exec "$@"' "$cgroups/pwm-$name" systemd-nspawn --quiet --boot --register=no --keep-unit \
    --directory="$state/$name/root" --machine="pwm-$name" --network-namespace-path="/run/netns/pwm-$name" \
    --capability=all --system-call-filter="@keyring bpf" --bind=/dev/net/tun --resolv-conf=off --timezone=off --console=pipe \
    > "$state/$name/console.log" 2>&1 < /dev/null &
  echo $! > "$state/$name/init.pid"
}

reachable() {
  ip netns exec pwm-lan ssh -F "$SSH_CONFIG" -o ConnectTimeout=2 "$1" true < /dev/null 2> /dev/null
}

up() {
  [ ! -e /run/netns/pwm-lan ] || { echo "machines are up already, or were left behind: sh $0 down" >&2; exit 1; }
  if [ $# -gt 0 ]; then MACHINES=$*; fi
  base
  echo "$MACHINES" > "$state/machines"
  [ -e "$state/key" ] || ssh-keygen -q -t ed25519 -N '' -f "$state/key"
  ip netns add pwm-lan
  ip -n pwm-lan link set lo up
  ip -n pwm-lan link add br0 type bridge
  ip -n pwm-lan address add 192.168.2.1/24 brd + dev br0
  ip -n pwm-lan link set br0 up
  : > "$SSH_CONFIG"
  for machine in $MACHINES; do
    name=${machine%%:*} address=${machine#*:}
    cat >> "$SSH_CONFIG" << END
Host $name
  HostName $address
  User root
  IdentityFile $state/key
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
END
    make_root "$name"
    start "$name" "$address"
  done
  deadline=$(($(date +%s) + 120))
  for machine in $MACHINES; do
    until reachable "${machine%%:*}"; do
      [ "$(date +%s)" -lt "$deadline" ] || { echo "${machine%%:*} does not answer by ssh; see $state/${machine%%:*}/console.log" >&2; exit 1; }
      sleep 0.5
    done
  done
  # shellcheck disable=SC2086 # a list of words
  echo "$(printf '%s\n' $MACHINES | wc -l) machines are up; SSH_CONFIG=$SSH_CONFIG"
}

down() {
  for machine in $MACHINES; do
    ask_to_end "$state/${machine%%:*}/init.pid"
    ask_to_end "$state/${machine%%:*}/slirp.pid"
  done
  for machine in $MACHINES; do
    name=${machine%%:*}
    end "$state/$name/init.pid"
    end "$state/$name/slirp.pid"
  done
  for machine in $MACHINES; do
    name=${machine%%:*}
    # What outlived its init.
    if [ -e "/run/netns/pwm-$name" ]; then
      for pid in $(ip netns pids "pwm-$name"); do kill -KILL "$pid" 2> /dev/null || :; done
      ip netns del "pwm-$name"
    fi
    if mountpoint -q "$state/$name/root"; then umount -R "$state/$name/root"; fi
    # systemd-nspawn has made one of version 1 too, where this machine has that.
    for group in "$cgroups/pwm-$name" "/sys/fs/cgroup/systemd/pwm-$name"; do
      find "$group" -depth -type d -exec rmdir {} + 2> /dev/null || :
    done
    rm -rf "${state:?}/$name"
  done
  if [ -e /run/netns/pwm-lan ]; then ip netns del pwm-lan; fi
  rm -f "$SSH_CONFIG" "$state/key" "$state/key.pub" "$state/machines"
}

case ${1:-} in
  up) shift; up "$@" ;;
  exec) shift; exec ip netns exec pwm-lan "$@" ;;
  provision) shift; exec ip netns exec pwm-lan sh "$here/../../vagrant/ssh.sh" -F "$SSH_CONFIG" "$@" ;;
  down) down ;;
  *) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

#!/bin/sh
# A box for Vagrant's libvirt provider, made on this machine: Debian 12 with its own kernel (6.1) in the place of
# Ubuntu 22.04 where that cannot be fetched. As root:
#   sh box.sh FILE     FILE is made: a box, for `vagrant box add --name NAME FILE`
# It has what boxes of Ubuntu 22.04 have and provisioning counts on: systemd with networkd, resolved and netplan,
# interfaces called eth0 and eth1, sshd, rsync, and a user vagrant with Vagrant's insecure key who may sudo.
# PREPARED=yes does in the box what provisioning begins with, out of vagrant/cache (see vagrant/cache.sh): Node.js, the
# programs and podwire's package, so that emulated machines, which are slow, find these done.
# Needs debootstrap, extlinux, e2fsprogs, fdisk, qemu-utils and vagrant (for its key), and a loop device.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
file=${1:?the box to make}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
# Of a disk that grows as it is written to.
GIB=8
# The partition begins at a MiB, as partitions do.
OFFSET=1048576
PACKAGES=systemd,systemd-sysv,dbus,openssh-server,sudo,iproute2,ca-certificates,curl,netbase,kmod,procps,iputils-ping
# Debian's kernel for virtual machines: virtio, and no drivers of hardware.
KERNEL=linux-image-cloud-amd64
export DEBIAN_FRONTEND=noninteractive

key=$(find /usr/share/rubygems-integration /opt/vagrant -path '*/keys/vagrant.pub' 2> /dev/null | head -n 1)
[ -n "$key" ] || { echo "box.sh: Vagrant's public key is not here: apt-get install vagrant" >&2; exit 1; }
mbr=/usr/lib/syslinux/mbr/mbr.bin
[ -e "$mbr" ] || { echo "box.sh: $mbr is not here: apt-get install extlinux syslinux-common" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/var/tmp}/podwire-box.XXXXXX")
root=$work/root
disk=$work/mounted
loop=
finish() {
  for mounted in "$root/mnt/vagrant" "$root/mnt/scripts" "$root/proc" "$disk"; do
    if mountpoint -q "$mounted"; then umount "$mounted"; fi
  done
  if [ -n "$loop" ]; then losetup -d "$loop"; fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

echo "debootstrap: Debian 12"
debootstrap --variant=minbase --include="$PACKAGES" bookworm "$root" "$mirror" > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }

echo "kernel and programs"
# Services of packages stay as they are on this machine.
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
cp /etc/resolv.conf "$root/etc/resolv.conf"
mount -t proc proc "$root/proc"
# shellcheck disable=SC2086 # lists of words
chroot "$root" sh -c 'apt-get -qq update && apt-get -qq install -y --no-install-recommends "$@" && apt-get clean' apt \
  $KERNEL initramfs-tools extlinux netplan.io systemd-resolved rsync > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }

# This machine's certificate authorities: registries may be reached by way of one of its own.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/registries.crt"
echo 'cafile=/etc/ssl/registries.crt' > "$root/root/.npmrc"

if [ -n "${PREPARED:-}" ]; then
  # resolved's package has made it a link to what runs only in the machine.
  rm -f "$root/etc/resolv.conf"
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  for folder in vagrant scripts; do
    mkdir "$root/mnt/$folder"
    mount --bind "$here/../../$folder" "$root/mnt/$folder"
  done
  chroot "$root" sh -eu -c 'sh /mnt/vagrant/provision/machine.sh master
    sh /mnt/vagrant/provision/node.sh /mnt/vagrant/cache/podwire.tgz package' > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  for folder in vagrant scripts; do
    umount "$root/mnt/$folder"
    rmdir "$root/mnt/$folder"
  done
  # systemctl needs no running systemd for this.
  for service in nginx redis-server; do systemctl --root="$root" disable -q "$service"; done
fi
umount "$root/proc"
rm -f "$root/usr/sbin/policy-rc.d"

# As Vagrant wants it.
chroot "$root" useradd --create-home --shell /bin/bash vagrant
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/vagrant"
chmod 440 "$root/etc/sudoers.d/vagrant"
install -d -m 700 "$root/home/vagrant/.ssh"
install -m 600 "$key" "$root/home/vagrant/.ssh/authorized_keys"
chroot "$root" chown -R vagrant:vagrant /home/vagrant/.ssh
echo 'UseDNS no' > "$root/etc/ssh/sshd_config.d/box.conf"

# Each machine makes its own identity.
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"
cat > "$root/etc/systemd/system/ssh-host-keys.service" << 'END'
[Unit]
Description=Host keys of sshd, at first boot
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
END
systemctl --root="$root" enable -q ssh-host-keys systemd-networkd systemd-resolved
echo box > "$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 box\n' > "$root/etc/hosts"
cat > "$root/etc/netplan/01-netcfg.yaml" << 'END'
network:
  version: 2
  renderer: networkd
  ethernets:
    eth0:
      dhcp4: true
      dhcp-identifier: mac
END
chmod 600 "$root/etc/netplan/01-netcfg.yaml"
ln -sf /run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
echo 'LABEL=box / ext4 errors=remount-ro 0 1' > "$root/etc/fstab"

echo "disk"
truncate -s "${GIB}G" "$work/disk"
echo "$((OFFSET / 512)),,L,*" | sfdisk -q "$work/disk"
dd if="$mbr" of="$work/disk" bs=440 count=1 conv=notrunc status=none
loop=$(losetup -f --show -o $OFFSET "$work/disk")
# extlinux reads neither of the two.
mkfs.ext4 -q -L box -O '^64bit,^metadata_csum' "$loop"
mkdir "$disk"
mount "$loop" "$disk"
tar -C "$root" -cf - . | tar -C "$disk" -xf -
mkdir "$disk/boot/extlinux"
extlinux --install "$disk/boot/extlinux" > /dev/null 2>&1
cat > "$disk/boot/extlinux/extlinux.conf" << 'END'
DEFAULT debian
PROMPT 0
LABEL debian
  LINUX /vmlinuz
  INITRD /initrd.img
  APPEND root=LABEL=box ro net.ifnames=0 console=ttyS0
END
umount "$disk"
losetup -d "$loop"
loop=

echo "box"
mkdir "$work/box"
qemu-img convert -c -O qcow2 "$work/disk" "$work/box/box.img"
printf '{"provider": "libvirt", "format": "qcow2", "virtual_size": %s}\n' "$GIB" > "$work/box/metadata.json"
tar -C "$work/box" -cf "$file" metadata.json box.img
echo "$file: $(du -h "$file" | cut -f1)"

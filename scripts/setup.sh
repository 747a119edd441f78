#!/bin/sh
# Installs the system's programs that are missing for what you want to do:
#   sh scripts/setup.sh [lab|test|bench|node|master|kubectl]
# lab: a compiler and Python for the native part (the lab installs its own programs when it runs)
# test: also every program that the tests call; bench: also the load generators
# node: what a node needs that runs pods, without a compiler; master: also kubectl; kubectl: that alone
# Does nothing when all are there. Debian, Ubuntu and their relatives.
set -eu
# shellcheck disable=SC2086 # lists of words are meant to be split

BUILD='g++:g++ make:make python3:python3'
LAB='ip:iproute2 curl:curl nginx:nginx apache2:apache2-bin redis-server:redis-server redis-cli:redis-tools setpriv:util-linux sysctl:procps nsenter:util-linux runc:runc conmon:conmon'
TEST="$LAB ping:iputils-ping iperf3:iperf3 tshark:tshark tcpdump:tcpdump ethtool:ethtool chromium:chromium"

case "${1:-lab}" in
  lab) wanted=$BUILD ;;
  test) wanted="$BUILD $TEST" ;;
  node | master) wanted=$LAB ;;
  kubectl) wanted= ;;
  bench) wanted="$BUILD $TEST wrk:wrk redis-benchmark:redis-tools nft:nftables iptables-nft-restore:iptables keepalived:keepalived" ;;
  *) echo "usage: sh scripts/setup.sh [lab|test|bench|node|master|kubectl]" >&2; exit 2 ;;
esac

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

if ! command -v node > /dev/null || [ "$(node -p 'parseInt(process.versions.node)')" -lt 20 ]; then
  echo "podwire needs Node.js 20 or newer in PATH; see https://nodejs.org/en/download" >&2
  exit 1
fi

# No package of Debian's or Ubuntu's has a kubectl that is new enough: it is fetched from Kubernetes' own
# site, with its checksum. Where that fails, the lab says so again where it matters.
fetch_kubectl() {
  command -v curl > /dev/null || return 1
  url=https://dl.k8s.io/release/v1.32.0/bin/linux/$(dpkg --print-architecture)/kubectl
  folder=$(mktemp -d) || return 1
  echo "Fetching $url"
  curl -fsSL --max-time 120 -o "$folder/kubectl" "$url" &&
    curl -fsSL --max-time 30 -o "$folder/sum" "$url.sha256" &&
    echo "$(cat "$folder/sum")  $folder/kubectl" | sha256sum -c --quiet - &&
    install -m 755 "$folder/kubectl" /usr/local/bin/kubectl
  fetched=$?
  rm -rf "$folder"
  return $fetched
}

if [ "${1:-lab}" != node ] && ! command -v kubectl > /dev/null && ! fetch_kubectl; then
  echo "The lab and its tests are driven with kubectl, which is not in PATH. It is one file; see" >&2
  echo "https://kubernetes.io/docs/tasks/tools/install-kubectl-linux/" >&2
fi

packages=
for pair in $wanted; do
  command -v "${pair%%:*}" > /dev/null || packages="$packages ${pair#*:}"
done
[ -n "$packages" ] || exit 0

if ! command -v apt-get > /dev/null; then
  echo "There is no apt-get here. Install what these Debian packages hold:$packages" >&2
  exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo > /dev/null || { echo "As root: apt-get install$packages" >&2; exit 1; }
  as_root=sudo
fi

# Packages of servers start them; on this machine they are only wanted as programs.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" > /dev/null
  $as_root chmod 755 "$policy"
  trap '$as_root rm -f "$policy"' EXIT
  trap 'exit 130' INT TERM HUP
fi

echo "Installing:$packages"
# Another apt may be at work: a machine that has just started often updates itself.
wait='-o DPkg::Lock::Timeout=120'
$as_root apt-get $wait update
$as_root env DEBIAN_FRONTEND=noninteractive apt-get $wait install -y --no-install-recommends $packages

if [ -d /run/systemd/system ]; then
  for service in nginx redis-server keepalived; do
    case " $packages " in *" $service "*) $as_root systemctl disable --now "$service" || : ;; esac
  done
fi

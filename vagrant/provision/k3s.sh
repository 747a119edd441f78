#!/bin/sh
# Third step on every node where PODWIRE_PROFILE is k3s, in place of node.sh and with its arguments, as root: a
# Kubernetes installed with k3s without its own pod network, kube-proxy, network policies and service load
# balancer, and podwire in their place.
#   sh k3s.sh FILE master NAME ADDRESS
#   sh k3s.sh FILE node NAME ADDRESS https://MASTER:6443 TOKEN     TOKEN: what `k3s token create` prints there
# PODWIRE_K3S_VERSION is the release. Files in the folder vagrant/cache of the working copy serve instead of
# downloads: k3s (the program), k3s-install.sh (https://get.k3s.io), k3s-airgap-images-* (what its own pods run).
# May be repeated.
set -eu
package=${1:?package} role=${2:?master or node} name=${3:?name} address=${4:?address}
here=$(cd "$(dirname "$0")" && pwd)
cache=$(dirname "$here")/cache
version=${PODWIRE_K3S_VERSION:-v1.32.5+k3s1}
# The walkthrough's: manifests/lab/pool.yaml, and what podwire install takes by default.
pods=10.1.0.0/16 services=10.152.183.0/24
data=/var/lib/rancher/k3s # k3s's --data-dir
admin=/etc/rancher/k3s/k3s.yaml

PODWIRE_PROFILE='' sh "$here/node.sh" "$package" package
manifests=$(npm root --global)/podwire/manifests

# Waits until a command succeeds.
await() {
  deadline=$(($(date +%s) + ${READY_SECONDS:-600}))
  until "$@"; do
    if [ "$(date +%s)" -ge "$deadline" ]; then
      echo "k3s.sh: no success of: $*; see journalctl -u k3s -u k3s-agent -n 50" >&2
      exit 1
    fi
    sleep 1
  done
}

# install_k3s server|agent OPTION…
install_k3s() {
  for file in "$cache"/k3s-airgap-images-*; do
    if [ -e "$file" ]; then
      mkdir -p "$data/agent/images"
      cp "$file" "$data/agent/images/"
    fi
  done
  if [ -e "$cache/k3s" ]; then
    install -m 755 "$cache/k3s" /usr/local/bin/k3s
    export INSTALL_K3S_SKIP_DOWNLOAD=true
  fi
  if [ -e "$cache/k3s-install.sh" ]; then
    INSTALL_K3S_VERSION=$version sh "$cache/k3s-install.sh" "$@"
  else
    script=$(mktemp)
    curl -fsSL --max-time 60 -o "$script" https://get.k3s.io
    INSTALL_K3S_VERSION=$version sh "$script" "$@"
    rm -f "$script"
  fi
}

# kubectl as the administrator on the master, as the kubelet elsewhere.
kube() { k3s kubectl --kubeconfig "$as" "$@"; }
missing() { ! kube get "$@" > /dev/null 2>&1; }
secret() { kube get secret "$1" --namespace kube-system --output "jsonpath={.data.$2}"; }
has_token() { [ -n "$(secret "$1" token 2> /dev/null)" ]; }

# kubeconfig ACCOUNT SERVER FILE: how this account, whose token is in the Secret of its name, reaches the API server.
kubeconfig() {
  await has_token "$1"
  mkdir -p "$(dirname "$3")"
  (
    umask 077
    cat > "$3.new" << END
apiVersion: v1
kind: Config
current-context: k3s
contexts: [{name: k3s, context: {cluster: k3s, user: $1}}]
clusters: [{name: k3s, cluster: {server: "$2", certificate-authority-data: $(secret "$1" 'ca\.crt')}}]
users: [{name: $1, user: {token: $(secret "$1" token | base64 -d)}}]
END
  )
  mv "$3.new" "$3"
}

# Without flannel k3s leaves containerd its own places for CNI, /etc/cni/net.d and /opt/cni/bin, where podwire
# install writes. Container runtimes call one more plugin there, for lo; k3s brings it.
mkdir -p /opt/cni/bin
[ -e /opt/cni/bin/loopback ] || ln -sfn "$data/data/current/bin/loopback" /opt/cni/bin/loopback

case $role in
  master)
    server=https://$address:6443
    install_k3s server --node-name="$name" --node-ip="$address" --advertise-address="$address" \
      --cluster-cidr="$pods" --service-cidr="$services" \
      --flannel-backend=none --disable-network-policy --disable-kube-proxy --disable=servicelb --disable=traefik
    as=$admin
    answers() { kube get --raw /readyz > /dev/null 2>&1; }
    await answers
    kube apply -k "$manifests/crd"
    # Where MetalLB has been, its own stay.
    ! missing crd ipaddresspools.metallb.io || kube create -f "$manifests/metallb/crd.yaml"
    kube wait --for=condition=Established --timeout=60s \
      crd/ippools.podwire.dev crd/ipamblocks.podwire.dev crd/ipaddresspools.metallb.io crd/l2advertisements.metallb.io
    ! missing namespace metallb-system || kube create namespace metallb-system
    for file in agent/rbac agent/token controller/rbac controller/token; do
      kube apply -f "$manifests/$file.yaml"
    done
    ! missing ippools.podwire.dev default || kube create -f "$manifests/lab/pool.yaml"
    ;;
  node)
    server=${5:?server}
    K3S_URL=$server K3S_TOKEN=${6:?token} install_k3s agent --node-name="$name" --node-ip="$address"
    as=$data/agent/kubelet.kubeconfig
    ;;
  *) echo "k3s.sh: master or node, not $role" >&2; exit 2 ;;
esac

kubeconfig podwire-agent "$server" /etc/podwire/kubeconfig
podwire install --role node --node "$name" --address "$address" --service-range "$services" --no-run-pods
podwire doctor || :

if [ "$role" = master ]; then
  kubeconfig podwire-controller "$server" /etc/podwire/controller.kubeconfig
  cat > /etc/systemd/system/podwire-controller.service << END
[Unit]
Description=podwire controller: addresses for Services of type LoadBalancer
Wants=network-online.target
After=network-online.target k3s.service
StartLimitIntervalSec=0

[Service]
Type=exec
DynamicUser=yes
LoadCredential=kubeconfig:/etc/podwire/controller.kubeconfig
ExecStart=$(command -v podwire) controller --kubeconfig \${CREDENTIALS_DIRECTORY}/kubeconfig
Environment=PATH=$(dirname "$(command -v node)"):/usr/local/bin:/usr/bin:/bin
Restart=always
RestartSec=2
CapabilityBoundingSet=
PrivateDevices=yes
ProtectHome=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK

[Install]
WantedBy=multi-user.target
END
  systemctl daemon-reload
  systemctl enable -q podwire-controller
  systemctl restart podwire-controller
  # For everybody who logs in as root; others get a copy by ready.sh.
  printf 'export KUBECONFIG=%s\n' "$admin" > /etc/profile.d/podwire.sh
fi

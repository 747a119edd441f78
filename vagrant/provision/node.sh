#!/bin/sh
# Third step on every node, as root: installs podwire's package and its services.
#   sh node.sh FILE package                the package alone
#   sh node.sh FILE master NAME ADDRESS
#   sh node.sh FILE node NAME ADDRESS https://MASTER:6443 TOKEN CA-HASH
# May be repeated: a node that has joined stays joined.
# PODWIRE_PROFILE=k3s: k3s.sh does that instead.
[ "${PODWIRE_PROFILE:-}" != k3s ] || exec sh "$(dirname "$0")/k3s.sh" "$@"
set -eu
package=${1:?package} role=${2:?master or node}
if [ "$role" != package ]; then name=${3:?name} address=${4:?address}; fi
export npm_config_update_notifier=false npm_config_fund=false npm_config_audit=false

# The same package once more is no work: on emulated machines npm takes minutes.
installed=$(npm root --global)/podwire/.package
sum=$(sha256sum < "$package")
if [ "$(cat "$installed" 2> /dev/null)" = "$sum" ]; then
  echo "podwire: this package is installed already"
else
  npm install --global --loglevel=error "$package"
  echo "$sum" > "$installed"
fi
case $role in
  package) exit 0 ;;
  master) podwire install --role master --node "$name" --address "$address" ;;
  node)
    podwire install --role node --node "$name" --address "$address" \
      --server "${5:?server}" --token "${6:?token}" --ca-hash "${7:?hash of the CA}"
    ;;
  *) echo "node.sh: master or node, not $role" >&2; exit 2 ;;
esac
# Exit status 1 is for errors; they are to be seen, and the rest goes on.
podwire doctor || :

if [ "$role" = master ]; then
  # For everybody who logs in as root; others get a copy by ready.sh.
  printf 'export KUBECONFIG=/var/lib/podwire/apiserver/admin.kubeconfig\n' > /etc/profile.d/podwire.sh
  export KUBECONFIG=/var/lib/podwire/apiserver/admin.kubeconfig
  pool=$(npm root --global)/podwire/manifests/lab/pool.yaml
  kubectl get ippools.podwire.dev default > /dev/null 2>&1 || kubectl create -f "$pool"
fi

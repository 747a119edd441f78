#!/bin/sh
# Last step, on the master, as root: waits until the nodes are Ready, and says what to type next.
#   sh ready.sh COUNT [USER]     USER gets a kubeconfig in ~/.kube/config
set -eu
count=${1:?how many nodes} user=${2:-}
case ${PODWIRE_PROFILE:-podwire} in
  k3s) KUBECONFIG=/etc/rancher/k3s/k3s.yaml ;;
  *) KUBECONFIG=/var/lib/podwire/apiserver/admin.kubeconfig ;;
esac
export KUBECONFIG

deadline=$(($(date +%s) + ${READY_SECONDS:-600}))
ready() { kubectl get node --no-headers 2> /dev/null | awk '$2 == "Ready"' | wc -l; }
until [ "$(ready)" -ge "$count" ]; do
  if [ "$(date +%s)" -ge "$deadline" ]; then
    kubectl get node -o wide || :
    echo "Only $(ready) of $count nodes are Ready. On one that is not: journalctl -u podwire-agent -n 50; podwire doctor" >&2
    exit 1
  fi
  sleep 1
done

if [ -n "$user" ] && [ "$user" != root ]; then
  home=$(getent passwd "$user" | cut -d: -f6)
  install -d -o "$user" -m 700 "$home/.kube"
  install -o "$user" -m 600 "$KUBECONFIG" "$home/.kube/config"
fi

manifests=$(npm root --global)/podwire/manifests/lab
echo '$ kubectl get node -o wide'
kubectl get node -o wide
cat << END

The nodes are Ready. On the master (vagrant ssh k8s-master, or ssh) go on with:
  kubectl apply -f $manifests/nginx-ds.yaml -f $manifests/apache-ds.yaml -f $manifests/redis-ds.yaml
  kubectl get pod -o wide
  kubectl apply -f $manifests/clusterip.yaml      # then curl a CLUSTER-IP from any node
  kubectl apply -f $manifests/nodeport.yaml       # then curl http://192.168.2.30:30080/ from your machine
  kubectl delete -f $manifests/clusterip.yaml -f $manifests/nodeport.yaml
  kubectl apply -f $manifests/loadbalancer.yaml -f $manifests/addresspool.yaml   # kubectl get svc says which address to curl
END
# The suite asks for what podwire's own pods answer.
[ "${PODWIRE_PROFILE:-}" = k3s ] ||
  echo "Or let the acceptance suite do the whole walkthrough, from the working copy: npm run acceptance -- --target vagrant"

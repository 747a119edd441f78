#!/bin/sh
# Fills vagrant/cache from what this machine has, for machines that reach no download site and no registry:
#   sh vagrant/cache.sh
#   node-v*-linux-*.tar.gz   this machine's Node.js with npm
#   kubectl                  this machine's
#   podwire.tgz              the package as npm pack makes it, and in it everything it depends on
# The machines then need Debian's packages alone. vagrant/cache is not under version control.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=$here/cache
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
export npm_config_update_notifier=false npm_config_fund=false npm_config_audit=false npm_config_loglevel=error

mkdir -p "$cache"
rm -f "$cache"/node-v*-linux-*.tar.*
node=$(readlink -f "$(command -v node)")
tree=node-$(node -p "process.version + '-linux-' + process.arch")
mkdir -p "$work/$tree/bin" "$work/$tree/lib/node_modules" "$work/$tree/include"
cp "$node" "$work/$tree/bin/node"
cp -R "$(npm root --global)/npm" "$work/$tree/lib/node_modules/npm"
for program in npm npx; do ln -s "../lib/node_modules/npm/bin/$program-cli.js" "$work/$tree/bin/$program"; done
# What a native part is built with.
headers=$(dirname "$(dirname "$node")")/include/node
if [ -d "$headers" ]; then cp -R "$headers" "$work/$tree/include/node"; fi
tar -C "$work" -czf "$cache/$tree.tar.gz" "$tree"

cp -L "$(command -v kubectl)" "$cache/kubectl"

(cd "$here/.." && npm pack --pack-destination "$work" > /dev/null)
tar -C "$work" -xzf "$work"/podwire-*.tgz
rm "$work"/podwire-*.tgz
cd "$work/package"
# Scripts run where it is installed.
npm install --omit=dev --ignore-scripts --no-package-lock
npm pkg set --json bundleDependencies=true
npm pack --ignore-scripts --pack-destination "$work" > /dev/null
mv "$work"/podwire-*.tgz "$cache/podwire.tgz"
ls -sh "$cache"

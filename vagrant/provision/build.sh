#!/bin/sh
# Second step, on the master alone, as root: makes podwire's package from the working copy.
#   sh build.sh FILE     where the package is put
# A package in vagrant/cache/podwire.tgz (npm pack makes one) is taken as it is, and nothing is built.
set -eu
file=${1:?where the package is put}
here=$(cd "$(dirname "$0")" && pwd)
source=$(dirname "$(dirname "$here")")
mkdir -p "$(dirname "$file")"

if [ -e "$source/vagrant/cache/podwire.tgz" ]; then
  cp "$source/vagrant/cache/podwire.tgz" "$file"
  echo "the package is vagrant/cache/podwire.tgz"
  exit 0
fi

sh "$source/scripts/setup.sh" lab
# Not in the working copy: its node_modules may be another system's.
work=$(mktemp -d /var/tmp/podwire-build.XXXXXX)
trap 'rm -rf "$work"' EXIT
tar -C "$source" --exclude=./node_modules --exclude=./build --exclude='./dist*' --exclude=./.git \
  --exclude=./.vagrant --exclude=./vagrant/.vagrant --exclude=./vagrant/cache -cf - . | tar -C "$work" --no-same-owner -xf -
cd "$work"
echo "building podwire"
npm install --no-audit --no-fund --loglevel=error
npm pack --loglevel=error > /dev/null
mv podwire-*.tgz "$file"
echo "built $file"

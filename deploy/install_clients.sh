#!/usr/bin/env bash
# Installs published clients of older boards into a folder, for the tests that let them work here:
#
#   deploy/install_clients.sh FOLDER
#
# FOLDER/posthog then holds the client classes of @posthog/agent and what they import. What is there
# already is left alone. Needs node with npm, and 120 MB while it unpacks.
set -euo pipefail

folder=${1:?usage: deploy/install_clients.sh FOLDER}
version=2.4.187

mkdir -p "$folder/posthog"
cd "$folder/posthog"
here=$PWD
if [ "$(cat version 2>/dev/null)" = "$version" ]; then
  echo "@posthog/agent $version is there"
  exit
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
again() { for _ in 1 2 3; do "$@" </dev/null && return; sleep 5; done; return 1; }

echo '{"private": true, "type": "module"}' >package.json
again npm install --no-audit --no-fund --silent --ignore-scripts zod@4.6.7 lru-cache@11.5.3
again npm pack --silent --pack-destination "$scratch" "@posthog/agent@$version" >/dev/null
# The whole package needs agents of 400 MB; these two files need the two packages above.
tar xzf "$scratch"/*.tgz -C "$here" --strip-components=2 \
  package/dist/posthog-api.js package/dist/resume.js
echo "$version" >version
echo "@posthog/agent $version installed"

#!/bin/sh
# Compares the contracts in proto/ with those of the main branch: no client may break.
#
# buf can read a commit by itself, but not the google protos, which are laid beside the contracts
# and not committed; so the commit's contracts are laid out together with them.
set -eu
cd "$(dirname "$0")/../.."

for ref in origin/main main HEAD none; do
    if [ "$ref" = none ]; then
        echo "buf breaking: skipped, there is no earlier commit with contracts."
        exit 0
    fi
    git cat-file -e "$ref:proto/ias" 2>/dev/null && git cat-file -e "$ref:buf.yaml" && break
done

before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
git archive "$ref" buf.yaml proto | tar -x -C "$before"
cp -R third_party "$before/third_party"
proto/node_modules/.bin/buf breaking --against "$before"
echo "buf breaking: nothing breaks against $ref."

#!/bin/sh
# No file of ours (tracked, or new and not ignored) names a package registry's host: which one is used is each machine's own matter.
set -eu
cd "$(dirname "$0")/../.."

# The brackets keep these patterns from finding themselves.
hosts='pypi[.]org|pythonhosted[.]org|npmjs[.](org|com)|yarnpkg[.]com|crates[.]io|docker[.]io'
hosts="$hosts"'|ghcr[.]io|gcr[.]io|quay[.]io|proxy[.]golang[.]org|deb[.]debian[.]org'

if git grep --untracked -nIE "$hosts" -- .; then
    echo "These files name a package registry; they must not."
    exit 1
fi
echo "no registry hosts: none is named."

#!/bin/sh
# Generates the stubs of the Go and C++ clients from the contracts and compiles both into
# .cache/polyglot, unless what is there was made from the same files. Needs the packages that
# deploy/dev/prepare.sh polyglot installs, and nothing from the network.
set -eu

cd "$(dirname "$0")/../.."
OUT=$PWD/.cache/polyglot
CONTRACTS="ias/access/v1/access.proto ias/inference/v1/chat.proto
    ias/inference/v1/completions.proto ias/inference/v1/embeddings.proto"
GOOGLE="google/rpc/status.proto google/rpc/error_details.proto"

# shellcheck disable=SC2086 # one word for each file
made_from() {
    pwd
    (cd proto && cksum $CONTRACTS)
    (cd third_party/googleapis && cksum $GOOGLE)
    cksum tests/polyglot/build.sh tests/polyglot/go/client.go tests/polyglot/cpp/client.cc
}

[ -f "$OUT/stamp" ] && [ "$(cat "$OUT/stamp")" = "$(made_from)" ] && exit
echo "Building the clients in Go and C++ (half a minute)" >&2
rm -rf "$OUT"

# --- Go: a GOPATH of Debian's sources and ours, so that no module is looked for -------------------

SOURCES=$OUT/go/src
mkdir -p "$SOURCES/client"
options=
for contract in $CONTRACTS; do
    # The contracts name no Go package; whoever generates chooses one.
    options="$options,M$contract=${contract%/*}"
done
# shellcheck disable=SC2086
protoc -Iproto --go_out="$SOURCES" --go_opt="${options#,}" \
    --go-grpc_out="$SOURCES" --go-grpc_opt="${options#,}" $CONTRACTS
cp tests/polyglot/go/client.go "$SOURCES/client/"
GO111MODULE=off GOFLAGS='' GOPATH=$OUT/go:/usr/share/gocode GOCACHE=$OUT/go-cache \
    go build -o "$OUT/client-go" client
rm -rf "$OUT/go-cache"

# --- C++ -----------------------------------------------------------------------------------------

STUBS=$OUT/cpp
mkdir -p "$STUBS"
# shellcheck disable=SC2086
protoc -Iproto -Ithird_party/googleapis --cpp_out="$STUBS" --grpc_out="$STUBS" \
    --plugin=protoc-gen-grpc="$(command -v grpc_cpp_plugin)" $CONTRACTS $GOOGLE
# shellcheck disable=SC2046
g++ -std=c++17 -O0 -I"$STUBS" -o "$OUT/client-cpp" tests/polyglot/cpp/client.cc \
    $(find "$STUBS" -name '*.pb.cc' ! -name 'access.grpc.pb.cc' ! -path '*/google/*.grpc.pb.cc') \
    $(pkg-config --cflags --libs grpc++ protobuf)

made_from >"$OUT/stamp"

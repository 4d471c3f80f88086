#!/usr/bin/env bash
# The pages of `corelog report` in a real browser: headless Chromium, driven by playwright-core, both from npm in the
# versions that tests/report/package-lock.json names, and installed below the target directory. CHROMIUM names another
# browser. Where npm cannot install them (there is no npm, or no way to the registry) the last line says so; a page that
# is wrong is a failure.
#
# tests/report.sh [DIRECTORY] also puts pictures of the pages there.
set -euo pipefail
pictures=${1:+$(realpath -m "$1")}
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target/report
mkdir -p "$work" ${pictures:+"$pictures"}

# The test writes the runs and their pages.
cargo test --locked --quiet --test report

cp tests/report/package.json tests/report/package-lock.json tests/report/*.js "$work"
for tool in node npm; do
    if ! command -v "$tool" >/dev/null; then
        echo "NOT RUN: the pages were not opened in a browser, because there is no $tool (on Debian: nodejs npm)"
        exit 0
    fi
done
if ! npm ci --silent --ignore-scripts --no-audit --no-fund --prefix "$work"; then
    echo "NOT RUN: the pages were not opened in a browser, because npm cannot install tests/report/package-lock.json"
    exit 0
fi
timeout 300 node "$work/check.js" "$target/tmp/report" ${pictures:+"$pictures"}

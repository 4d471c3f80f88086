#!/usr/bin/env bash
# Runs a command whose writes to one device are slow now and then: one second in five it takes only so many a second.
# What nobody else on the machine does to the device is slowed down, but for the file system's own journal, which the
# kernel writes for the command. As root; control groups of version 1 or 2.
#
#   perf/slow_disk.sh DIRECTORY WRITES_PER_SECOND COMMAND…
#   perf/slow_disk.sh /var/tmp 50 corelog bench --embedded --embedded-dir /var/tmp \
#     --workload perf/workloads/slow-disk.toml
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
directory=$1 writes=$2
shift 2

# Limits are for whole devices.
device=$(stat -c '%Hd:%Ld' "$directory")
if [ -e "/sys/dev/block/$device/partition" ]; then
    device=$(cat "/sys/dev/block/$device/../dev")
fi
if [ ! -d "/sys/dev/block/$device" ]; then
    echo "error: $directory lies on no block device that could be slowed down" >&2
    exit 1
fi

name=corelog-slow-$$
if [ -d /sys/fs/cgroup/blkio ]; then
    group=/sys/fs/cgroup/blkio/$name
    mkdir "$group"
    limit() { echo "$device $1" > "$group/blkio.throttle.write_iops_device"; }
    fast=0
else
    group=/sys/fs/cgroup/$name
    echo +io > /sys/fs/cgroup/cgroup.subtree_control
    mkdir "$group"
    limit() { echo "$device wiops=$1" > "$group/io.max"; }
    fast=max
fi

turns() {
    while sleep 4; do
        limit "$writes"
        sleep 1
        limit "$fast"
    done
}
turns > /dev/null &
turning=$!
trap 'kill "$turning" || true; wait "$turning" || true; rmdir "$group"' EXIT

(
    echo "$BASHPID" > "$group/cgroup.procs"
    exec "$@"
)

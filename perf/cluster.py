"""Several brokers on this machine that are one cluster, for the scripts that measure them.

Node N listens at N after `options.port`, for other brokers 10,000 above that and for HTTP 20,000 above it.
"""

import os
import pathlib
import shutil
import subprocess
import time

from run import Server

# Until a topic can be placed on all of them.
JOIN_SECONDS_MAX = 60
PEER_PORT_STEP, HTTP_PORT_STEP = 10_000, 20_000


class Cluster:
    """Brokers that know each other, each with a directory, a log and a processor of its own or shared."""

    def __init__(self, options, count, cpu_of, flags=(), binary=None):
        self.options, self.count, self.cpu_of, self.broker_flags = options, count, cpu_of, list(flags)
        self.work = pathlib.Path(options.work_dir).resolve()
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        os.sync()
        self.binary = binary or pathlib.Path(options.target_dir) / "release" / "corelog"
        self.servers = {}
        try:
            for node in range(1, count + 1):
                self.start(node)
            for node, server in self.servers.items():
                server.wait(self.port(node))
        except BaseException:
            self.stop()
            raise

    def port(self, node):
        return self.options.port + node

    def bootstrap(self):
        return f"127.0.0.1:{self.port(1)}"

    def http(self, node):
        return f"127.0.0.1:{self.port(node) + HTTP_PORT_STEP}"

    def start(self, node):
        cpu = self.cpu_of(node)
        command = [self.binary, "serve", "--node-id", str(node), "--data-dir", self.work / f"broker-{node}",
                   "--listen", f"127.0.0.1:{self.port(node)}", "--http-listen", self.http(node),
                   "--cores", f"{cpu}-{cpu}"]
        if self.count > 1:
            command += ["--peer-listen", f"127.0.0.1:{self.port(node) + PEER_PORT_STEP}"]
        if node > 1:
            command += ["--seeds", ",".join(f"127.0.0.1:{self.port(other)}" for other in range(1, node))]
        self.servers[node] = Server(f"broker {node}", command + self.broker_flags, self.work / f"log-{node}")
        return self.servers[node]

    def create_topic(self, name, partitions, *flags):
        """A topic with a replica on each broker, as soon as all have joined."""
        command = [self.binary, "topic", "create", "--bootstrap", self.bootstrap(), name, "--partitions",
                   str(partitions), "--replication-factor", str(self.count), *flags]
        until = time.monotonic() + JOIN_SECONDS_MAX
        while True:
            made = subprocess.run(command, capture_output=True, text=True)
            if made.returncode == 0:
                return
            if time.monotonic() > until:
                raise SystemExit(f"no topic with {self.count} replicas: {made.stderr}")
            time.sleep(0.2)

    def stop(self):
        for server in self.servers.values():
            server.process.terminate()
        for server in self.servers.values():
            server.__exit__()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

//! The machine that a run was made on, as far as it lets itself be read.
//!
//! *Owns*: the names of the facts, and where in `/proc` and `/sys` they stand. *Never*: guesses: what cannot be read
//! says so. *Runs on*: any thread, once a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The value of every fact that this machine does not tell.
pub const NOT_READABLE: &str = "not readable";

/// One file of `/proc` or `/sys`, as far as it is kept.
const FILE_CHARS_MAX: usize = 1 << 20;

/// Interrupts, interfaces, processors that are looked at.
const ENTRIES_MAX: usize = 4096;

/// Facts by name.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Environment {
    pub facts: BTreeMap<String, String>,
}

/// Where a path lies, by `/proc/self/mountinfo`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Mount {
    /// `major:minor`.
    device: String,
    file_system: String,
    /// Of the mount and of the file system, comma between.
    options: String,
}

impl Environment {
    /// Reads this machine. `data` is the broker's data directory where it is on this machine.
    pub fn read(data: Option<&Path>) -> Environment {
        Environment::read_below(Path::new("/"), data)
    }

    /// `root` stands for `/` in all but `data`.
    fn read_below(root: &Path, data: Option<&Path>) -> Environment {
        let mut found = Environment::default();
        let system = System { root };
        found.set("corelog.version", Some(env!("CARGO_PKG_VERSION").to_owned()));
        found.set("host", system.file("proc/sys/kernel/hostname").map(|name| host(&name)));
        found.set("kernel.release", system.file("proc/sys/kernel/osrelease"));
        found.set("kernel.version", system.file("proc/sys/kernel/version"));
        found.set("kernel.cmdline", system.file("proc/cmdline"));
        found.set("clocksource", system.file("sys/devices/system/clocksource/clocksource0/current_clocksource"));
        system.processors(&mut found);
        let status = system.file("proc/self/status");
        found.set("cpu.allowed", status.and_then(|text| after(&text, "Cpus_allowed_list:", "\n")));
        found.set("memory.total", system.file("proc/meminfo").and_then(|text| after(&text, "MemTotal:", "\n")));
        let limits = system.file("proc/self/limits");
        found.set("memlock", limits.and_then(|text| after(&text, "Max locked memory", "\n")).map(|t| memlock(&t)));
        found.set("numa.nodes", system.file("sys/devices/system/node/online"));
        let pages = system.file("sys/kernel/mm/transparent_hugepage/enabled");
        found.set("memory.transparent_hugepages", pages.and_then(|text| chosen(&text)));
        found.set("net.irq_affinity", system.network_interrupts());
        if let Some(data) = data {
            system.data(data, &mut found);
        }
        found
    }

    pub fn set(&mut self, name: &str, value: Option<String>) {
        let value = value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        self.facts.insert(name.to_owned(), value.unwrap_or_else(|| NOT_READABLE.to_owned()));
    }
}

/// Thin readers of one tree of files.
struct System<'a> {
    root: &'a Path,
}

impl System<'_> {
    fn file(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.chars().take(FILE_CHARS_MAX).collect())
    }

    /// Names in a directory, sorted; nothing when it cannot be listed.
    fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path)).into_iter().flatten().take(ENTRIES_MAX);
        let mut names: Vec<String> =
            entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
        names.sort();
        names
    }

    fn processors(&self, found: &mut Environment) {
        const CPUS: &str = "sys/devices/system/cpu";
        let info = self.file("proc/cpuinfo");
        found.set("cpu.model", info.as_deref().and_then(cpu_model));
        found.set("cpu.count", info.as_deref().and_then(cpu_count));
        found.set("cpu.virtual", info.as_deref().and_then(is_virtual));
        found.set("cpu.isolated", self.file(format!("{CPUS}/isolated")).map(|list| or_none(&list)));
        found.set("cpu.smt", self.file(format!("{CPUS}/smt/active")).and_then(|text| on_off(&text)));
        let is_cpu = |name: &String| name.strip_prefix("cpu").is_some_and(|n| n.parse::<u32>().is_ok());
        let cpus: Vec<String> = self.names(CPUS).into_iter().filter(is_cpu).collect();
        let governors = cpus.iter().filter_map(|cpu| self.file(format!("{CPUS}/{cpu}/cpufreq/scaling_governor")));
        found.set("cpu.governor", tally(governors));
        let boost = self.file(format!("{CPUS}/cpufreq/boost")).and_then(|text| on_off(&text));
        let no_turbo = self.file(format!("{CPUS}/intel_pstate/no_turbo"));
        found.set("cpu.turbo", no_turbo.and_then(|text| on_off(&text)).map(opposite).or(boost));
        let weaknesses = self.names(format!("{CPUS}/vulnerabilities"));
        let states = weaknesses.iter().filter_map(|name| {
            let state = self.file(format!("{CPUS}/vulnerabilities/{name}"))?;
            Some(format!("{name}: {}", state.trim()))
        });
        found.set("cpu.mitigations", joined(states, "; "));
    }

    fn network_interrupts(&self) -> Option<String> {
        let interfaces = self.names("sys/class/net").into_iter().filter_map(|interface| {
            let interrupts = self.interrupts(&format!("sys/class/net/{interface}/device"))?;
            Some(format!("{interface} {interrupts}"))
        });
        joined(interfaces, "; ")
    }

    /// Which processors each interrupt of a device may go to: `irq:processors` each.
    fn interrupts(&self, device: &str) -> Option<String> {
        let mut path = fs::canonicalize(self.root.join(device)).ok()?;
        // A virtio device has its interrupts at the PCI device that it is part of, an NVMe drive one further up.
        let list = std::iter::from_fn(|| {
            let list = path.join("msi_irqs");
            path.pop().then_some(list)
        });
        let list = list.take(4).find(|list| list.is_dir())?;
        let mut interrupts: Vec<u32> = self.names(list).iter().filter_map(|name| name.parse().ok()).collect();
        interrupts.sort_unstable();
        let affinities = interrupts.iter().filter_map(|interrupt| {
            let list = self.file(format!("proc/irq/{interrupt}/smp_affinity_list"))?;
            Some(format!("{interrupt}:{}", list.trim()))
        });
        joined(affinities, " ")
    }

    fn data(&self, data: &Path, found: &mut Environment) {
        let place = fs::canonicalize(data).ok();
        let mounts = self.file("proc/self/mountinfo");
        let mount = place.zip(mounts).and_then(|(place, mounts)| mount_of(&mounts, &place));
        found.set("data.file_system", mount.as_ref().map(|mount| mount.file_system.clone()));
        found.set("data.mount_options", mount.as_ref().map(|mount| mount.options.clone()));
        let device = mount.and_then(|mount| self.whole_device(&mount.device));
        let of = |file: &str| device.as_ref().and_then(|device| self.file(device.join(file)));
        found.set("data.device", device.as_ref().and_then(|device| Some(device.file_name()?.to_str()?.to_owned())));
        found.set("data.device_model", of("device/model").or_else(|| of("device/device/model")));
        found.set("data.scheduler", of("queue/scheduler").and_then(|text| chosen(&text)));
        found.set("data.write_cache", of("queue/write_cache"));
        found.set("data.rotational", of("queue/rotational").and_then(|text| on_off(&text)));
        let interrupts = device.as_ref().and_then(|device| self.interrupts(device.join("device").to_str()?));
        found.set("data.irq_affinity", interrupts);
    }

    /// The directory of the device that a partition lies on.
    fn whole_device(&self, device: &str) -> Option<PathBuf> {
        let path = fs::canonicalize(self.root.join("sys/dev/block").join(device)).ok()?;
        if path.join("partition").exists() { path.parent().map(Path::to_owned) } else { Some(path) }
    }
}

/// Tells machines apart without telling their names to whoever gets the run.
fn host(name: &str) -> String {
    format!("{:08x} (checksum of its name)", crc32fast::hash(name.trim().as_bytes()))
}

fn cpu_model(info: &str) -> Option<String> {
    let value = |key: &str| {
        let line = info.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    value("model name").or_else(|| value("Model")).or_else(|| {
        let (implementer, part) = (value("CPU implementer")?, value("CPU part")?);
        Some(format!("implementer {implementer}, part {part}"))
    })
}

fn cpu_count(info: &str) -> Option<String> {
    let count = info.lines().filter(|line| line.split(':').next().is_some_and(|k| k.trim() == "processor")).count();
    (count > 0).then(|| count.to_string())
}

fn is_virtual(info: &str) -> Option<String> {
    let flags = info.lines().find(|line| line.starts_with("flags"))?;
    let is_virtual = flags.split_whitespace().any(|flag| flag == "hypervisor");
    Some(if is_virtual { "yes" } else { "no" }.to_owned())
}

/// The soft and the hard limit, from what stands behind the name in `/proc/self/limits`.
fn memlock(line: &str) -> String {
    let mut words = line.split_whitespace();
    let mut word = || words.next().unwrap_or(NOT_READABLE).to_owned();
    format!("{} (hard {})", word(), word())
}

/// The one in brackets: `[mq-deadline] none`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(chosen, _)| chosen.to_owned())
}

fn on_off(text: &str) -> Option<String> {
    match text.trim() {
        "1" => Some("on".to_owned()),
        "0" => Some("off".to_owned()),
        _ => None,
    }
}

fn opposite(state: String) -> String {
    if state == "on" { "off".to_owned() } else { "on".to_owned() }
}

fn or_none(text: &str) -> String {
    if text.trim().is_empty() { "none".to_owned() } else { text.to_owned() }
}

/// What stands between a key and the end.
fn after(text: &str, key: &str, end: &str) -> Option<String> {
    let (_, rest) = text.split_once(key)?;
    Some(rest.split(end).next().unwrap_or(rest).trim().to_owned())
}

/// Each value once, with how often when they differ.
fn tally(values: impl Iterator<Item = String>) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value.trim().to_owned()).or_default() += 1);
    if counts.len() == 1 {
        return counts.pop_first().map(|(value, _)| value);
    }
    joined(counts.into_iter().map(|(value, count)| format!("{count} × {value}")), ", ")
}

fn joined(parts: impl Iterator<Item = String>, between: &str) -> Option<String> {
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.join(between))
}

/// The mount that a path lies on: the one with the longest matching mount point, the last of equals.
fn mount_of(mounts: &str, path: &Path) -> Option<Mount> {
    let mut best: Option<(usize, Mount)> = None;
    for line in mounts.lines() {
        let Some((before, behind)) = line.split_once(" - ") else { continue };
        let before: Vec<&str> = before.split(' ').collect();
        let behind: Vec<&str> = behind.split(' ').collect();
        let (&[_, _, device, _, point, options, ..], &[file_system, _, super_options, ..]) = (&before[..], &behind[..])
        else {
            continue;
        };
        let point = unescaped(point);
        let length = point.components().count();
        if path.starts_with(&point) && best.as_ref().is_none_or(|(longest, _)| length >= *longest) {
            let (device, file_system) = (device.to_owned(), file_system.to_owned());
            best = Some((length, Mount { device, file_system, options: format!("{options},{super_options}") }));
        }
    }
    best.map(|(_, mount)| mount)
}

/// `\040` and its like, as the kernel writes spaces, tabs, line ends and backslashes.
fn unescaped(text: &str) -> PathBuf {
    let mut plain = text.to_owned();
    for (code, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(code, character);
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_tells_nothing_is_not_guessed_at() {
        let empty = tempfile::tempdir().expect("a directory");
        let found = Environment::read_below(empty.path(), Some(&empty.path().join("none")));
        let known: Vec<&String> =
            found.facts.iter().filter(|(_, value)| *value != NOT_READABLE).map(|(name, _)| name).collect();
        assert_eq!(known, ["corelog.version"]);
        assert!(found.facts.len() > 20);
    }

    #[test]
    fn a_whole_machine_is_read() {
        let root = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, text).expect("written");
        };
        let data = fs::canonicalize(root.path()).expect("there");
        let cpu = "sys/devices/system/cpu";
        write("proc/sys/kernel/hostname", "tower\n");
        write("proc/sys/kernel/osrelease", "6.12.1\n");
        write("proc/cpuinfo", "processor\t: 0\nmodel name\t: A 1\nflags\t: fpu hypervisor\nprocessor\t: 1\n");
        write("proc/self/limits", "Limit  Soft  Hard  Units\nMax locked memory         8388608   unlimited   bytes\n");
        write("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-1\nMems:\t0\n");
        write(&format!("{cpu}/cpu0/cpufreq/scaling_governor"), "performance\n");
        write(&format!("{cpu}/cpu1/cpufreq/scaling_governor"), "powersave\n");
        write(&format!("{cpu}/cpufreq/policy0"), "");
        write(&format!("{cpu}/intel_pstate/no_turbo"), "1\n");
        write(&format!("{cpu}/vulnerabilities/meltdown"), "Not affected\n");
        write(&format!("{cpu}/vulnerabilities/mds"), "Vulnerable\n");
        write(&format!("{cpu}/isolated"), "\n");
        write("sys/devices/pci0/virtio1/block/vda/vda1/partition", "1\n");
        write("sys/devices/pci0/virtio1/block/vda/queue/scheduler", "none [mq-deadline] kyber\n");
        write("sys/devices/pci0/virtio1/block/vda/queue/rotational", "0\n");
        write("sys/devices/pci0/msi_irqs/9", "msi\n");
        write("sys/devices/pci0/msi_irqs/10", "msi\n");
        write("proc/irq/9/smp_affinity_list", "0\n");
        write("proc/irq/10/smp_affinity_list", "0-1\n");
        fs::create_dir_all(root.path().join("sys/dev/block")).expect("made");
        fs::create_dir_all(root.path().join("sys/class/net/eth0")).expect("made");
        let link = |from: &str, to: &str| {
            std::os::unix::fs::symlink(root.path().join(to), root.path().join(from)).expect("linked");
        };
        link("sys/dev/block/254:1", "sys/devices/pci0/virtio1/block/vda/vda1");
        link("sys/devices/pci0/virtio1/block/vda/device", "sys/devices/pci0/virtio1");
        link("sys/class/net/eth0/device", "sys/devices/pci0/virtio1");
        let mounts = format!(
            "30 1 0:1 / / rw - overlay o rw\n31 1 254:1 / {} rw,noatime - ext4 /dev/vda1 rw,discard\n",
            data.display()
        );
        write("proc/self/mountinfo", &mounts);
        let found = Environment::read_below(root.path(), Some(&data));
        for (name, expect) in [
            ("host", "checksum of its name"),
            ("kernel.release", "6.12.1"),
            ("kernel.cmdline", NOT_READABLE),
            ("cpu.model", "A 1"),
            ("cpu.count", "2"),
            ("cpu.virtual", "yes"),
            ("cpu.allowed", "0-1"),
            ("cpu.isolated", "none"),
            ("cpu.governor", "1 × performance, 1 × powersave"),
            ("cpu.turbo", "off"),
            ("cpu.mitigations", "mds: Vulnerable; meltdown: Not affected"),
            ("memlock", "8388608 (hard unlimited)"),
            ("net.irq_affinity", "eth0 9:0 10:0-1"),
            ("data.file_system", "ext4"),
            ("data.mount_options", "rw,noatime,rw,discard"),
            ("data.device", "vda"),
            ("data.device_model", NOT_READABLE),
            ("data.scheduler", "mq-deadline"),
            ("data.rotational", "off"),
            ("data.irq_affinity", "9:0 10:0-1"),
        ] {
            assert!(found.facts[name].contains(expect), "{name}: {}", found.facts[name]);
        }
        assert!(!found.facts["host"].contains("tower"));
    }

    #[test]
    fn the_longest_mount_point_wins() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / /data rw - xfs /dev/b rw,prjquota\n\
                      3 1 8:3 / /data/with\\040space ro - btrfs /dev/c rw\nnonsense\n4 - \n";
        let check = |path: &str, expect: &str| {
            assert_eq!(mount_of(mounts, Path::new(path)).expect("a mount").file_system, expect, "{path}");
        };
        check("/x", "ext4");
        check("/database", "ext4");
        check("/data", "xfs");
        check("/data/y", "xfs");
        check("/data/with space/y", "btrfs");
        assert_eq!(mount_of("", Path::new("/")), None);
    }

    #[test]
    fn this_machine_is_read_without_harm() {
        let found = Environment::read(Some(Path::new(env!("CARGO_MANIFEST_DIR"))));
        assert_ne!(found.facts["kernel.release"], NOT_READABLE);
        assert!(!found.facts["data.file_system"].is_empty());
    }
}

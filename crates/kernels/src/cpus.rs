//! Where threads can run: cores, NUMA nodes, limits of this process, and binding.

use std::path::{Path, PathBuf};

/// CPUs by number, as Linux reports them; empty on other systems.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// CPUs that this process may use, grouped by physical core.
    pub cores: Vec<Vec<usize>>,
    /// NUMA nodes, with the CPUs that this process may use.
    pub nodes: Vec<Node>,
    /// CPU time that the control groups of this process allow, in CPUs.
    pub cpu_quota: Option<f64>,
    /// Memory that the control groups allow, in bytes.
    pub memory_limit: Option<u64>,
}

/// A NUMA node: memory and the CPUs near it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: usize,
    /// Its CPUs that this process may use.
    pub cpus: Vec<usize>,
}

/// Which CPUs threads are bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// Unbound: the system moves threads.
    #[default]
    None,
    /// Each thread to a physical core.
    Auto,
    /// Threads next to each other: all hardware threads of a core, then those of the next.
    Compact,
    /// Threads far from each other: physical cores of each NUMA node in turn.
    Scatter,
    /// Threads round-robin to these CPUs.
    List(Vec<usize>),
}

impl std::str::FromStr for Affinity {
    type Err = String;

    fn from_str(text: &str) -> Result<Affinity, String> {
        match text {
            "none" => Ok(Affinity::None),
            "auto" => Ok(Affinity::Auto),
            "compact" => Ok(Affinity::Compact),
            "scatter" => Ok(Affinity::Scatter),
            list => parse_list(list).map(Affinity::List).ok_or_else(|| {
                format!("expected none, auto, compact, scatter, or a list of CPUs such as 0,2-5, found `{list}`")
            }),
        }
    }
}

impl Topology {
    /// Reads the topology of this machine.
    pub fn read() -> Topology {
        let allowed = allowed();
        if allowed.is_empty() { Topology::default() } else { Topology::under(Path::new("/"), &allowed) }
    }

    /// Reads the kernel's files under another folder than `/`, for a process that may use some CPUs.
    pub fn under(root: &Path, allowed: &[usize]) -> Topology {
        let sys = root.join("sys/devices/system");
        let mut cores: Vec<(Option<String>, Vec<usize>)> = Vec::new();
        for &cpu in allowed {
            let topology = sys.join(format!("cpu/cpu{cpu}/topology"));
            let siblings =
                line(&topology.join("core_cpus_list")).or_else(|| line(&topology.join("thread_siblings_list")));
            match cores.iter_mut().find(|(name, _)| siblings.is_some() && *name == siblings) {
                Some((_, core)) => core.push(cpu),
                None => cores.push((siblings, vec![cpu])),
            }
        }
        let ids = line(&sys.join("node/online")).and_then(|list| parse_list(&list)).unwrap_or_default();
        let node = |id| {
            let mut cpus = parse_list(&line(&sys.join(format!("node/node{id}/cpulist")))?)?;
            cpus.retain(|cpu| allowed.contains(cpu));
            Some(Node { id, cpus })
        };
        let quota = |folder: &Path| {
            let number = |name: &str| line(&folder.join(name))?.parse::<f64>().ok();
            let (quota, period) = match line(&folder.join("cpu.max")) {
                Some(max) => {
                    max.split_once(' ').and_then(|(quota, period)| Some((quota.parse().ok()?, period.parse().ok()?)))?
                }
                None => (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?),
            };
            (quota > 0.0 && period > 0.0).then(|| quota / period)
        };
        // Version 1 of control groups has no word for "none", only a number larger than any memory.
        let memory = |folder: &Path| {
            let bytes = line(&folder.join("memory.max")).or_else(|| line(&folder.join("memory.limit_in_bytes")))?;
            bytes.parse::<u64>().ok().filter(|&bytes| bytes < 1 << 60)
        };
        Topology {
            cores: cores.into_iter().map(|(_, core)| core).collect(),
            nodes: ids.into_iter().filter_map(node).collect(),
            cpu_quota: groups(root, "cpu").iter().filter_map(|folder| quota(folder)).min_by(f64::total_cmp),
            memory_limit: groups(root, "memory").iter().filter_map(|folder| memory(folder)).min(),
        }
    }

    /// The default number of threads: one per physical core, within affinity and quota.
    pub fn threads(&self) -> usize {
        let available = std::thread::available_parallelism().map_or(1, |n| n.get());
        if self.cores.is_empty() { available } else { available.min(self.cores.len()) }
    }

    /// CPUs in the order in which threads are bound to them: first one of each core.
    pub fn spread(&self) -> Vec<usize> {
        let deepest = self.cores.iter().map(Vec::len).max().unwrap_or(0);
        (0..deepest).flat_map(|i| self.cores.iter().filter_map(move |core| core.get(i).copied())).collect()
    }

    /// CPUs with those of a core next to each other.
    pub fn compact(&self) -> Vec<usize> {
        self.cores.iter().flatten().copied().collect()
    }

    /// CPUs of each node in turn, first one of each core.
    pub fn scatter(&self) -> Vec<usize> {
        let spread = self.spread();
        let mut turns: Vec<(usize, usize, usize)> = Vec::new();
        for (i, &cpu) in spread.iter().enumerate() {
            let node = self.nodes.iter().position(|node| node.cpus.contains(&cpu)).unwrap_or(0);
            let turn = turns.iter().filter(|(_, other, _)| *other == node).count();
            turns.push((turn, node, i));
        }
        turns.sort_unstable();
        turns.into_iter().map(|(_, _, i)| spread[i]).collect()
    }

    /// The topology restricted to some CPUs.
    pub fn within(mut self, cpus: &[usize]) -> Topology {
        let sets = self.cores.iter_mut().chain(self.nodes.iter_mut().map(|node| &mut node.cpus));
        sets.for_each(|set| set.retain(|cpu| cpus.contains(cpu)));
        self.cores.retain(|core| !core.is_empty());
        self
    }
}

/// The directories of a controller for this process, from its own group up to the root.
fn groups(root: &Path, controller: &str) -> Vec<PathBuf> {
    let mount = root.join("sys/fs/cgroup");
    let text = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut folders = Vec::new();
    for entry in text.lines() {
        let mut fields = entry.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let mounts = match controllers {
            "" => vec![mount.clone(), mount.join("unified")],
            _ if controllers.split(',').any(|name| name == controller) => {
                vec![mount.join(controllers), mount.join(controller)]
            }
            _ => continue,
        };
        for ancestor in Path::new(group.trim_start_matches('/')).ancestors() {
            folders.extend(mounts.iter().map(|mount| mount.join(ancestor)));
        }
    }
    folders
}

fn line(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Parses a list of CPUs as the kernel and `taskset` write it, such as `0,2-5`. `None` if it is
/// malformed, or a number is too large.
pub fn parse_list(list: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// More CPUs than Linux supports.
const MOST: usize = 1 << 14;

pub(crate) use system::{Bound, allowed, bind};

#[cfg(target_os = "linux")]
mod system {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    use std::io;
    use std::thread::ThreadId;

    /// CPUs that this thread may use.
    pub(crate) fn allowed() -> Vec<usize> {
        let all = |set: CpuSet| (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect();
        sched_getaffinity(None).map(all).unwrap_or_default()
    }

    /// Binds this thread and those that it will start.
    pub(crate) fn bind(cpu: usize) -> io::Result<()> {
        let mut set = CpuSet::new();
        if cpu < CpuSet::MAX_CPU {
            set.set(cpu);
        }
        Ok(sched_setaffinity(None, &set)?)
    }

    /// Restores the affinity of a thread when dropped.
    pub(crate) struct Bound {
        thread: ThreadId,
        before: CpuSet,
    }

    impl Bound {
        pub(crate) fn remember() -> io::Result<Bound> {
            Ok(Bound { thread: std::thread::current().id(), before: sched_getaffinity(None)? })
        }
    }

    impl Drop for Bound {
        fn drop(&mut self) {
            if std::thread::current().id() == self.thread {
                // On failure the thread stays bound.
                let _ = sched_setaffinity(None, &self.before);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;

    pub(crate) fn allowed() -> Vec<usize> {
        Vec::new()
    }

    pub(crate) fn bind(_: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) struct Bound;

    impl Bound {
        pub(crate) fn remember() -> io::Result<Bound> {
            Ok(Bound)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn lists_of_cpus_are_read_as_the_kernel_writes_them() {
        for (list, cpus) in [("0", Some(vec![0])), ("0,2-5", Some(vec![0, 2, 3, 4, 5])), ("1-1,0", Some(vec![1, 0]))] {
            assert_eq!(parse_list(list), cpus, "{list}");
        }
        for bad in ["", ",", "a", "1-", "-1", "3-1", "0-99999999999", "0 1", "1,,2"] {
            assert_eq!(parse_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_machine_is_what_the_kernel_describes() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (cpu, siblings) in ["0,4", "1,5", "2,6", "3,7"].iter().cycle().take(8).enumerate() {
            write(&format!("sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list"), &format!("{siblings}\n"));
        }
        write("sys/devices/system/node/online", "0-1\n");
        write("sys/devices/system/node/node0/cpulist", "0-1,4-5\n");
        write("sys/devices/system/node/node1/cpulist", "2-3,6-7\n");
        let read = |allowed: &[usize]| Topology::under(folder.path(), allowed);
        let all = read(&[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(all.cores, [[0, 4], [1, 5], [2, 6], [3, 7]]);
        assert_eq!(all.spread(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(all.compact(), [0, 4, 1, 5, 2, 6, 3, 7]);
        assert_eq!(all.scatter(), [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(all.nodes[1], Node { id: 1, cpus: vec![2, 3, 6, 7] });
        assert_eq!((all.cpu_quota, all.memory_limit), (None, None));
        assert_eq!(all.clone().within(&[4, 5, 0]), read(&[0, 4, 5]));
        assert_eq!(read(&[3, 4, 7]).cores, [vec![3, 7], vec![4]]);

        // The narrowest of nested groups counts, in both versions.
        write("proc/self/cgroup", "4:memory:/a/b\n1:cpu,cpuacct:/a\n0::/a/b\n");
        write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "350000\n");
        write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
        write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
        write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!((read(&[0]).cpu_quota, read(&[0]).memory_limit), (Some(3.5), None));
        write("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "5000\n");
        write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
        write("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
        write("sys/fs/cgroup/a/memory.max", "4000\n");
        write("sys/fs/cgroup/a/b/memory.max", "max\n");
        assert_eq!((read(&[0]).cpu_quota, read(&[0]).memory_limit), (Some(1.5), Some(4000)));
    }
}

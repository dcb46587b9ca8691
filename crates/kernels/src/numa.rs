//! Memory placement on machines with several NUMA nodes.

use crate::cpus::{Node, Topology};

/// Memory policy of a machine with several nodes; none has an effect on a machine with one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numa {
    /// The system's default: near the thread that first touches a page.
    #[default]
    Off,
    /// Pages round-robin over all nodes, so that all threads share the bandwidth of all nodes.
    Interleave,
    /// Threads and memory stay on one node.
    Bind,
}

impl std::str::FromStr for Numa {
    type Err = String;

    fn from_str(text: &str) -> Result<Numa, String> {
        match text {
            "off" => Ok(Numa::Off),
            "interleave" => Ok(Numa::Interleave),
            "bind" => Ok(Numa::Bind),
            _ => Err(format!("expected {}, found `{text}`", Numa::NAMES.join(", "))),
        }
    }
}

impl Numa {
    /// The names that can be parsed.
    pub const NAMES: [&str; 3] = ["off", "interleave", "bind"];

    /// Sets the policy for pages that this thread, and threads that it starts, touch first. Returns the nodes that it
    /// affects: none when it is off, or when there is only one.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn apply(self, topology: &Topology) -> std::io::Result<Vec<Node>> {
        let nodes = match self {
            Numa::Interleave if topology.nodes.len() > 1 => topology.nodes.clone(),
            Numa::Bind if topology.nodes.len() > 1 => {
                topology.nodes.iter().max_by_key(|node| node.cpus.len()).cloned().into_iter().collect()
            }
            _ => return Ok(Vec::new()),
        };
        set(self, &nodes)?;
        Ok(nodes)
    }
}

#[cfg(target_os = "linux")]
fn set(numa: Numa, nodes: &[Node]) -> std::io::Result<()> {
    const BITS: usize = libc::c_ulong::BITS as usize;
    let mode = if numa == Numa::Bind { libc::MPOL_BIND } else { libc::MPOL_INTERLEAVE };
    let most = nodes.iter().map(|node| node.id).max().unwrap_or(0);
    let mut mask = vec![0 as libc::c_ulong; most / BITS + 1];
    nodes.iter().for_each(|node| mask[node.id / BITS] |= 1 << (node.id % BITS));
    // SAFETY: the kernel reads one bit less of the mask than the number that it is given.
    let refused = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask.as_ptr(), mask.len() * BITS + 1) };
    if refused == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn set(_: Numa, _: &[Node]) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The kernel's own account of the policy, on a machine with at least the node 0.
    #[test]
    fn a_policy_holds_for_the_thread_that_sets_it() {
        for (numa, name) in [(Numa::Interleave, "interleave:0"), (Numa::Bind, "bind:0")] {
            std::thread::spawn(move || {
                if set(numa, &[Node { id: 0, cpus: vec![0] }]).is_err() {
                    return eprintln!("skipped: this kernel has no memory policies");
                }
                let maps = std::fs::read_to_string("/proc/thread-self/numa_maps").unwrap();
                assert!(maps.contains(name), "{maps}");
            })
            .join()
            .unwrap();
        }
        let one = Topology { nodes: vec![Node { id: 0, cpus: vec![0] }], ..Topology::default() };
        assert_eq!(Numa::Bind.apply(&one).unwrap(), []);
    }
}

//! Memory for weights and caches: huge pages, locking, and room that many tensors share.

use bytes::BytesMut;

/// A page that the CPU finds through one entry of its translation buffer: 2 MiB on x86-64 and on most ARM systems.
pub const HUGE_PAGE: usize = 2 << 20;

/// What the widest loads of a CPU are aligned to.
const ALIGN: usize = 64;

/// Bytes that an [`Arena`] asks for at once. What is not used of them takes no memory.
const CHUNK: usize = 64 << 20;

/// Room for weights that are copied, one after the other, so that small ones share huge pages.
#[derive(Debug)]
pub struct Arena {
    rest: BytesMut,
    huge_pages: bool,
}

impl Arena {
    /// An empty one, which asks for huge pages or leaves that to the system.
    pub fn new(huge_pages: bool) -> Arena {
        Arena { rest: BytesMut::new(), huge_pages }
    }

    /// `len` zero bytes at a multiple of 64.
    ///
    /// # Errors
    /// When the system has not so many.
    pub fn take(&mut self, len: usize) -> std::io::Result<BytesMut> {
        let room = len.max(1).next_multiple_of(ALIGN);
        if room > self.rest.len() {
            self.rest = zeroed(room.max(CHUNK), self.huge_pages)?;
        }
        let mut taken = self.rest.split_to(room);
        taken.truncate(len);
        Ok(taken)
    }
}

/// `len` zero bytes at the start of a huge page, which take no memory until they are written.
///
/// # Errors
/// When the system has not so many.
pub(crate) fn zeroed(len: usize, huge_pages: bool) -> std::io::Result<BytesMut> {
    let out_of_memory = |_| std::io::Error::from(std::io::ErrorKind::OutOfMemory);
    let whole = len.saturating_add(HUGE_PAGE);
    // A failure of the allocation itself would end the program.
    Vec::<u8>::new().try_reserve_exact(whole).map_err(out_of_memory)?;
    let mut bytes = BytesMut::zeroed(whole);
    let _ = bytes.split_to(bytes.as_ptr().align_offset(HUGE_PAGE));
    bytes.truncate(len);
    if huge_pages {
        ask_huge_pages(&bytes);
    }
    Ok(bytes)
}

/// Asks the system for huge pages where `memory` spans whole ones; best before it is first written. No value changes, and the system
/// may decline: [`huge_bytes`] tells what was got.
pub fn ask_huge_pages<T>(memory: &[T]) {
    #[cfg(target_os = "linux")]
    {
        let skip = memory.as_ptr().cast::<u8>().align_offset(HUGE_PAGE);
        let len = size_of_val(memory).saturating_sub(skip) / HUGE_PAGE * HUGE_PAGE;
        if len > 0 {
            let start = memory.as_ptr().cast::<u8>().wrapping_add(skip).cast_mut().cast();
            // SAFETY: the range is inside of `memory`, and the advice changes neither its content nor its protection.
            let _ = unsafe { rustix::mm::madvise(start, len, rustix::mm::Advice::LinuxHugepage) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// Keeps `memory` from being swapped out or dropped until it is unmapped.
///
/// # Errors
/// When the system refuses: most often because [`lock_limit`] is lower.
pub fn lock(memory: &[u8]) -> std::io::Result<()> {
    #[cfg(unix)]
    // SAFETY: the range is that of a slice, and locking changes no content.
    return Ok(unsafe { rustix::mm::mlock(memory.as_ptr().cast_mut().cast(), memory.len()) }?);
    #[cfg(not(unix))]
    return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, format!("for {} bytes", memory.len())));
}

/// Bytes that this process may [`lock`], when the system limits them.
pub fn lock_limit() -> Option<u64> {
    #[cfg(unix)]
    return rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    #[cfg(not(unix))]
    return None;
}

/// The system's setting of transparent huge pages: `always`, `madvise` (who asks gets them) or `never`; `None` where it has none.
pub fn transparent_huge_pages() -> Option<String> {
    let modes = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    Some(modes.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// Bytes of this process that lie in huge pages now; `None` where the system does not tell.
pub fn huge_bytes() -> Option<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some((field("AnonHugePages:")? + field("FilePmdMapped:").unwrap_or(0)) << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_gives_separate_aligned_zeros() {
        for huge_pages in [false, true] {
            let mut arena = Arena::new(huge_pages);
            let mut all = Vec::new();
            for len in [0, 1, 63, 64, 65, 4096, CHUNK - 1, CHUNK + 1, 7] {
                let mut bytes = arena.take(len).unwrap();
                assert_eq!((bytes.len(), bytes.as_ptr().align_offset(ALIGN)), (len, 0));
                assert!(bytes.iter().all(|&byte| byte == 0));
                bytes.fill(all.len() as u8 + 1);
                all.push(bytes.freeze());
            }
            for (i, bytes) in all.iter().enumerate() {
                assert!(bytes.iter().all(|&byte| byte == i as u8 + 1));
            }
        }
        assert!(Arena::new(true).take(isize::MAX as usize).is_err());
    }
}

//! Memory for weights and caches: huge pages, locking, and shared allocations.

use bytes::BytesMut;

/// The size of a huge page in bytes: 2 MiB on x86-64 and most ARM systems. A huge page needs one entry of the CPU's TLB.
pub const HUGE_PAGE: usize = 2 << 20;

/// The alignment of the widest vector loads, in bytes.
const ALIGN: usize = 64;

/// The minimum allocation of an [`Arena`] in bytes, where there are so many addresses. Unused pages take no memory.
const CHUNK: usize = 64 << 20;

/// Allocates memory for weights in large chunks, so that small tensors share huge pages.
#[derive(Debug)]
pub struct Arena {
    rest: BytesMut,
    size: ArenaSize,
}

impl Arena {
    /// Creates an empty arena, which requests huge pages or leaves them to the system's default.
    pub fn new(huge_pages: bool) -> Arena {
        Arena { rest: BytesMut::new(), size: ArenaSize::new(huge_pages) }
    }

    /// Allocates `len` zero bytes, aligned to 64 bytes.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn take(&mut self, len: usize) -> std::io::Result<BytesMut> {
        let room = len.max(1).next_multiple_of(ALIGN);
        if room > self.rest.len() {
            // Addresses may be limited, too.
            let chunk = zeroed(room.max(CHUNK), self.size.huge_pages);
            self.rest = chunk.or_else(|_| zeroed(room, self.size.huge_pages))?;
        }
        self.size.take(len);
        let mut taken = self.rest.split_to(room);
        taken.truncate(len);
        Ok(taken)
    }

    /// Bytes of memory once all that was taken is written.
    pub fn bytes(&self) -> usize {
        self.size.bytes()
    }
}

/// The size that an [`Arena`] would have, without its memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct ArenaSize {
    huge_pages: bool,
    /// Bytes of the last chunk that are left, and that are taken.
    rest: usize,
    taken: usize,
    /// Bytes of all chunks before it.
    before: usize,
}

impl ArenaSize {
    /// The size of an empty arena.
    pub fn new(huge_pages: bool) -> ArenaSize {
        ArenaSize { huge_pages, ..ArenaSize::default() }
    }

    /// As [`Arena::take`].
    pub fn take(&mut self, len: usize) {
        let room = len.max(1).next_multiple_of(ALIGN);
        if room > self.rest {
            *self = ArenaSize { rest: room.max(CHUNK), taken: 0, before: self.bytes(), ..*self };
        }
        self.rest -= room;
        self.taken += room;
    }

    /// Bytes of memory once all of it is written: whole pages.
    pub fn bytes(&self) -> usize {
        self.before + if self.huge_pages { self.taken.next_multiple_of(HUGE_PAGE) } else { self.taken }
    }
}

/// Allocates `len` zero bytes, aligned to a huge page. They take no memory until they are written.
///
/// # Errors
/// When there is not enough memory.
pub(crate) fn zeroed(len: usize, huge_pages: bool) -> std::io::Result<BytesMut> {
    let out_of_memory = |_| std::io::Error::from(std::io::ErrorKind::OutOfMemory);
    let whole = len.saturating_add(HUGE_PAGE);
    // `BytesMut::zeroed` aborts the program if the allocation fails.
    Vec::<u8>::new().try_reserve_exact(whole).map_err(out_of_memory)?;
    let mut bytes = BytesMut::zeroed(whole);
    let _ = bytes.split_to(bytes.as_ptr().align_offset(HUGE_PAGE));
    bytes.truncate(len);
    if huge_pages {
        advise_huge_pages(&bytes);
    }
    Ok(bytes)
}

/// Advises the system to use huge pages for `memory`, preferably before it is first written. The content does not change, and the system
/// may ignore it: [`huge_bytes`] returns the result.
pub fn advise_huge_pages<T>(memory: &[T]) {
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

/// Lets all threads allocate from one arena of glibc, where that is the allocator. With one for each of several threads, which it makes
/// otherwise, a program that answers requests for days grows: what one thread frees, another does not reuse. To be called before threads
/// are started.
pub fn use_one_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call takes two numbers and locks what it changes. A refusal leaves everything as it was.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Lets glibc, where that is the allocator, map each allocation of 256 KiB and more by itself. Its own limit rises to 32 MiB as such memory is
/// freed, and then buffers that grow with a prompt leave holes in the heap.
pub fn map_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: as above.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 18) };
}

/// Gives the system back what glibc, where that is the allocator, keeps of memory that was freed, also between what is in use. Other threads
/// that allocate wait for it.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call locks what it changes, and touches only memory that nobody uses.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Locks `memory` in RAM until it is unmapped.
///
/// # Errors
/// When the system reports one, most often because [`lock_limit`] is lower.
pub fn lock(memory: &[u8]) -> std::io::Result<()> {
    #[cfg(unix)]
    // SAFETY: the range is that of a slice, and locking changes no content.
    return Ok(unsafe { rustix::mm::mlock(memory.as_ptr().cast_mut().cast(), memory.len()) }?);
    #[cfg(not(unix))]
    return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, format!("for {} bytes", memory.len())));
}

/// Maximum number of bytes that this process may [`lock`], if it is limited.
pub fn lock_limit() -> Option<u64> {
    #[cfg(unix)]
    return rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    #[cfg(not(unix))]
    return None;
}

/// Bytes of addresses that this process may still take, if they are limited (`ulimit -v`) and the system reports how many it has.
pub fn addresses_left() -> Option<u64> {
    #[cfg(unix)]
    return Some(rustix::process::getrlimit(rustix::process::Resource::As).current?.saturating_sub(status("VmSize:")?));
    #[cfg(not(unix))]
    return None;
}

/// The system's setting for transparent huge pages: `always`, `madvise` (on advice) or `never`; `None` if it has none.
pub fn transparent_huge_pages() -> Option<String> {
    let modes = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    Some(modes.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// The number of bytes of this process in huge pages; `None` if the system does not report it.
pub fn huge_bytes() -> Option<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some((field("AnonHugePages:")? + field("FilePmdMapped:").unwrap_or(0)) << 10)
}

/// Resident memory of this process in bytes; `None` if the system does not report it.
pub fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// The most resident memory that this process has had, in bytes; `None` if the system does not report it.
pub fn peak_resident() -> Option<u64> {
    status("VmHWM:")
}

/// A line of `/proc/self/status` (Linux), in bytes.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
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

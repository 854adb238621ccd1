//! The memory of the process: what a burst took is given back to the system. glibc by itself learns from a burst to keep
//! large blocks, and gives back only what lies at the end of a heap. With another C library nothing is done.
#![cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "functions of the C library")
)]

/// Has large blocks taken from the system one by one, and given back as soon as they are free. To be called before the
/// first burst.
pub fn prepare() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number of the allocator, under its lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 * 1024);
    }
}

/// Gives back what lies free between other blocks. It takes milliseconds.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the locks of the allocator, and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

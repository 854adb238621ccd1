//! The memory of the process: what a burst took is given back to the system. glibc by itself learns from a burst to keep
//! large blocks, and gives back only what lies at the end of a heap. Elsewhere nothing is done.

/// Blocks of so many bytes and more are taken from the system, and given back as soon as they are free.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 256 * 1024;

/// To be called before the first burst.
#[cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "a function of the C library")
)]
pub fn prepare() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number of the allocator, under its lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Gives back what lies free between other blocks. It takes milliseconds.
#[cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "a function of the C library")
)]
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the locks of the allocator, and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

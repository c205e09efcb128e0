//! The kernel's random numbers and clocks, as the threads of a simulation get them.
//!
//! The standard library seeds its hash maps with `getrandom`, openraft draws its election timeouts
//! from a generator that is seeded so, and a few libraries look at the clock behind tokio's back. To
//! have all of that follow from the seed, without a change to any of them, this program defines the
//! two functions of libc itself: in a thread that has begun a simulation they answer from it, in
//! every other one they ask the kernel.

#![allow(unsafe_code)] // two functions of libc have to be defined here, and that is all

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_uint, c_void};

thread_local! {
    /// State of the generator, and the time in microseconds; `None` outside of simulations.
    static SIMULATED: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

/// What both clocks of the kernel show when a simulation begins, in seconds. Later than any span that
/// is subtracted from a time.
const BEGIN: u64 = 1_800_000_000;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

#[cfg(target_arch = "x86_64")]
const SYS: (c_long, c_long) = (318, 228);
#[cfg(target_arch = "aarch64")]
const SYS: (c_long, c_long) = (278, 113);

/// From here on this thread's random numbers follow from `seed`, and time stands at the beginning.
pub(crate) fn begin(seed: u64) {
    SIMULATED.set(Some((seed ^ 0x9e37_79b9_7f4a_7c15, 0)));
}

/// Sets this thread's time, in microseconds since the simulation began.
pub(crate) fn set_time(micros: u64) {
    if let Some((state, _)) = SIMULATED.get() {
        SIMULATED.set(Some((state, micros)));
    }
}

/// splitmix64.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `getrandom(2)`.
///
/// # Safety
/// As libc's: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    let Some((mut state, time)) = SIMULATED.get() else {
        // SAFETY: the arguments are those of the system call.
        return unsafe { syscall(SYS.0, buffer, length, flags) } as isize;
    };
    let mut written = 0;
    while written < length {
        let word = draw(&mut state).to_le_bytes();
        let part = word.len().min(length - written);
        // SAFETY: `written + part` is at most `length`, for which the caller has room.
        unsafe {
            std::ptr::copy_nonoverlapping(word.as_ptr(), buffer.cast::<u8>().add(written), part);
        }
        written += part;
    }
    SIMULATED.set(Some((state, time)));
    length as isize
}

/// `struct timespec` of 64-bit Linux.
#[repr(C)]
pub struct Timespec {
    seconds: i64,
    nanos: i64,
}

/// `clock_gettime(2)`, for every clock alike.
///
/// # Safety
/// As libc's: `time` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    let Some((_, micros)) = SIMULATED.get() else {
        // SAFETY: the arguments are those of the system call.
        return unsafe { syscall(SYS.1, c_long::from(clock), time) } as c_int;
    };
    let now = Timespec {
        seconds: (BEGIN + micros / 1_000_000) as i64,
        nanos: (micros % 1_000_000 * 1_000) as i64,
    };
    // SAFETY: the caller has room for it.
    unsafe { time.write(now) };
    0
}

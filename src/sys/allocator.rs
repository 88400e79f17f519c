//! Memory: large pieces come from the kernel and go back to it, small ones from `dlmalloc`.
//!
//! `dlmalloc` keeps what it once had, so one request of 2 MiB would make an idle daemon large for ever; and a buffer that grows
//! with what arrives is moved by the kernel's page tables, not copied.
//!
//! `dlmalloc` itself begins with memory that the executable brings along, handed to it page by page: a client that lives for a
//! millisecond needs three pages, and to map, fault in and take down some elsewhere was measured to cost it 10 µs.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

/// From here on a piece is worth the two system calls, and the page that rounding costs it.
const LARGE_BYTES: usize = 128 * 1024;
/// Mappings begin at a page; whatever wants more of its address is nobody here.
const PAGE_BYTES: usize = 4096;
/// What the executable brings along: more than a client ever needs, or a daemon that runs a few commands at once. What a rush has
/// touched of it stays; what is mapped for a rush goes back.
const ARENA_BYTES: usize = 64 * 1024;
/// What is mapped at the least when that is used up.
const SEGMENT_BYTES: usize = 64 * 1024;
/// What a daemon at rest keeps at hand for the next commands.
const KEPT_BYTES: usize = 64 * 1024;

/// For `#[global_allocator]`.
pub struct Allocator;

static SMALL: Mutex<dlmalloc::Dlmalloc<Source>> = Mutex::new(
    const {
        let mut small = dlmalloc::Dlmalloc::new_with_allocator(Source { used: Cell::new(0), mapped: Cell::new(0) });
        assert!(small.set_granularity(PAGE_BYTES));
        small
    },
);

fn small() -> MutexGuard<'static, dlmalloc::Dlmalloc<Source>> {
    SMALL.lock().unwrap_or_else(|broken| broken.into_inner())
}

/// Gives back to the kernel what is free beyond a little. For a daemon without work: it makes the next rush pay for its pages again.
pub fn trim() {
    // SAFETY: frees nothing that is in use.
    unsafe { small().trim(KEPT_BYTES) };
}

#[repr(align(16))]
struct Arena(UnsafeCell<[MaybeUninit<u8>; ARENA_BYTES]>);

// SAFETY: it is touched through what `Source` hands out, each byte to one owner.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([MaybeUninit::uninit(); ARENA_BYTES]));

/// Where `dlmalloc` gets its memory: the arena first, from its beginning on, then mappings.
struct Source {
    /// Bytes of the arena that are handed out.
    used: Cell<usize>,
    /// Counts the mappings by twos.
    mapped: Cell<u32>,
}

impl Source {
    fn is_in_arena(at: *mut u8) -> bool {
        let arena = ARENA.0.get() as usize;
        (arena..arena + ARENA_BYTES).contains(&(at as usize))
    }
}

// SAFETY: what is handed out is nobody else's: `used` only grows over a range that is free, and mappings are new.
unsafe impl dlmalloc::Allocator for Source {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let used = self.used.get();
        if size <= ARENA_BYTES - used {
            // To the end of the page, whatever it begins with: `dlmalloc` writes at the end of what it gets.
            let arena = ARENA.0.get() as usize;
            let end = ((arena + used + size).next_multiple_of(PAGE_BYTES) - arena).min(ARENA_BYTES);
            self.used.set(end);
            // SAFETY: within the arena.
            return (unsafe { ARENA.0.get().cast::<u8>().add(used) }, end - used, 0);
        }
        let size = size.max(SEGMENT_BYTES);
        // The kernel puts mappings side by side, and `dlmalloc` makes one segment of those with the same flags: then what is in use
        // at one end of it would keep all the rest from going back. Bit 0 has a meaning, the others have none.
        self.mapped.set(self.mapped.get().wrapping_add(2) | 2);
        (map(size), size, self.mapped.get())
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        // Only asked for pieces that `dlmalloc` has mapped one by one: those are ours to map.
        std::ptr::null_mut()
    }

    fn free_part(&self, at: *mut u8, old: usize, new: usize) -> bool {
        if !Source::is_in_arena(at) {
            // SAFETY: the end of a mapping of that size, given up by its owner.
            return unsafe { libc::munmap(at.add(new).cast(), old - new) == 0 };
        }
        let arena = ARENA.0.get() as usize;
        if at as usize + old != arena + self.used.get() {
            return false;
        }
        self.used.set(at as usize + new - arena);
        forget(at as usize + new..at as usize + old);
        true
    }

    fn free(&self, at: *mut u8, size: usize) -> bool {
        // SAFETY: a whole mapping of that size, given up by its owner.
        !Source::is_in_arena(at) && unsafe { libc::munmap(at.cast(), size) == 0 }
    }

    fn can_release_part(&self, _: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        false
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}

/// The whole pages within a part of the arena lose their bytes, and their memory.
fn forget(part: Range<usize>) {
    let (from, to) = (part.start.next_multiple_of(PAGE_BYTES), part.end / PAGE_BYTES * PAGE_BYTES);
    if from < to {
        // SAFETY: pages of the arena that nobody owns at the moment.
        unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_DONTNEED) };
    }
}

/// A new mapping, or null.
fn map(size: usize) -> *mut u8 {
    // SAFETY: a new private mapping.
    or_null(unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) })
}

fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE_BYTES && layout.align() <= PAGE_BYTES
}

fn or_null(mapped: *mut libc::c_void) -> *mut u8 {
    if mapped == libc::MAP_FAILED { std::ptr::null_mut() } else { mapped.cast() }
}

// SAFETY: which of the two a piece is from depends on its layout alone, which is the same when it is given back. The kernel's
// pieces are page-aligned, zero and nobody else's; `dlmalloc` keeps its own promises.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return map(layout.size());
        }
        // SAFETY: the caller's promise.
        unsafe { small().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            // SAFETY: the caller's promise; a new mapping is zero.
            return unsafe { self.alloc(layout) };
        }
        // SAFETY: the caller's promise.
        unsafe { small().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise: the piece is of this layout, and so of this origin.
        unsafe {
            if is_large(layout) {
                libc::munmap(piece.cast(), layout.size());
            } else {
                small().free(piece, layout.size(), layout.align());
            }
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise: the size is not zero and, rounded up to the alignment, no overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the caller's promise: the piece is of this layout, and so of this origin; no more is copied than both hold.
        unsafe {
            match (is_large(layout), is_large(wanted)) {
                (false, false) => small().realloc(piece, layout.size(), layout.align(), size),
                (true, true) => or_null(libc::mremap(piece.cast(), layout.size(), size, libc::MREMAP_MAYMOVE)),
                _ => {
                    let moved = self.alloc(wanted);
                    if !moved.is_null() {
                        std::ptr::copy_nonoverlapping(piece, moved, layout.size().min(size));
                        self.dealloc(piece, layout);
                    }
                    moved
                }
            }
        }
    }
}

/// `malloc(3)` and its kin for the C library, which wants a little for directories and paths: with these in place its own, 8 KB of
/// the executable, is left out. All of them are here, as musl asks of whoever replaces one; glibc wants more, and keeps its own.
#[cfg(all(target_env = "musl", panic = "abort"))]
mod for_c {
    use super::small;
    use std::ffi::c_void;

    fn or_no_memory(piece: *mut u8) -> *mut c_void {
        if piece.is_null() {
            // SAFETY: always a valid place.
            unsafe { *libc::__errno_location() = libc::ENOMEM };
        }
        piece.cast()
    }

    #[unsafe(no_mangle)]
    extern "C" fn malloc(size: usize) -> *mut c_void {
        // SAFETY: any size may be asked for.
        or_no_memory(unsafe { small().c_malloc(size) })
    }

    #[unsafe(no_mangle)]
    extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
        let Some(size) = count.checked_mul(size) else { return or_no_memory(std::ptr::null_mut()) };
        // SAFETY: any size may be asked for; what is new is at least so large.
        let piece = unsafe {
            let piece = small().c_malloc(size);
            if !piece.is_null() {
                piece.write_bytes(0, size);
            }
            piece
        };
        or_no_memory(piece)
    }

    /// # Safety
    /// As in malloc(3), here and below: null, or a piece from here.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn realloc(piece: *mut c_void, size: usize) -> *mut c_void {
        // SAFETY: the caller's promise.
        or_no_memory(unsafe { small().c_realloc(piece.cast(), size) })
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn free(piece: *mut c_void) {
        // SAFETY: the caller's promise.
        unsafe { small().c_free(piece.cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_keeps_its_bytes_across_every_change_of_size() {
        let sizes = [1, 100, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, 5 * LARGE_BYTES + 7, 3 * LARGE_BYTES, 4096, 3];
        let mut layout = Layout::from_size_align(8, 8).unwrap();
        // SAFETY: every size is the one that the piece has at that moment.
        unsafe {
            let mut piece = Allocator.alloc_zeroed(layout);
            for (n, size) in sizes.into_iter().enumerate() {
                let kept = *piece;
                piece = Allocator.realloc(piece, layout, size);
                layout = Layout::from_size_align(size, 8).unwrap();
                assert_eq!((*piece, piece as usize % 8), (kept, 0), "{size}");
                std::ptr::write_bytes(piece, n as u8 + 1, size);
                assert_eq!(*piece.add(size - 1), n as u8 + 1);
            }
            Allocator.dealloc(piece, layout);
            let large = Layout::from_size_align(LARGE_BYTES, 1).unwrap();
            let zero = Allocator.alloc_zeroed(large);
            assert!((0..LARGE_BYTES).all(|at| *zero.add(at) == 0));
            Allocator.dealloc(zero, large);
        }
    }
}

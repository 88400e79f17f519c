//! Memory: large pieces come from the kernel and go back to it, small ones from `dlmalloc`.
//!
//! `dlmalloc` keeps what it once had, so one request of 2 MiB would make an idle daemon large for ever; and a buffer that grows
//! with what arrives is moved by the kernel's page tables, not copied.

use dlmalloc::GlobalDlmalloc;
use std::alloc::{GlobalAlloc, Layout};

/// From here on a piece is worth the two system calls, and the page that rounding costs it.
const LARGE_BYTES: usize = 128 * 1024;
/// Mappings begin at a page; whatever wants more of its address is nobody here.
const PAGE_BYTES: usize = 4096;

/// For `#[global_allocator]`.
pub struct Allocator;

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
            // SAFETY: a new private mapping.
            return or_null(unsafe { libc::mmap(std::ptr::null_mut(), layout.size(), libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) });
        }
        // SAFETY: the caller's promise.
        unsafe { GlobalDlmalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            // SAFETY: the caller's promise; a new mapping is zero.
            return unsafe { self.alloc(layout) };
        }
        // SAFETY: the caller's promise.
        unsafe { GlobalDlmalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise: the piece is of this layout, and so of this origin.
        unsafe {
            if is_large(layout) {
                libc::munmap(piece.cast(), layout.size());
            } else {
                GlobalDlmalloc.dealloc(piece, layout);
            }
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise: the size is not zero and, rounded up to the alignment, no overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the caller's promise: the piece is of this layout, and so of this origin; no more is copied than both hold.
        unsafe {
            match (is_large(layout), is_large(wanted)) {
                (false, false) => GlobalDlmalloc.realloc(piece, layout, size),
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
